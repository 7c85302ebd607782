//! Time zones from the runtime's `Intl`. It knows all IANA time zones, and they add nothing to the
//! size of this program.

use std::cell::RefCell;
use std::collections::HashMap;

use js_sys::{Array, Date, Function, JsString, Object, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::domain::member::quiet_hours::Zones;
use crate::domain::time::Timestamp;

/// How many formatters an isolate keeps, one for each zone. If there are more, it drops all of them
/// and starts again.
const FORMATTERS_KEPT: usize = 100;

/// The zones of the runtime.
#[derive(Default)]
pub struct IntlZones {
    formatters: RefCell<HashMap<String, JsValue>>,
}

impl Zones for IntlZones {
    fn offset(&self, zone: &str, at: Timestamp) -> Option<i64> {
        // An offset is not accepted as a zone, because it would not follow daylight saving time.
        if !zone.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let formatter = self.formatter(zone).ok()?;
        let local = local_time(&formatter, at).ok()??;
        let whole = at.millis().div_euclid(1_000).checked_mul(1_000)?;
        local.checked_sub(whole)
    }
}

impl IntlZones {
    fn formatter(&self, zone: &str) -> Result<JsValue, JsValue> {
        let mut formatters = self.formatters.borrow_mut();
        if let Some(formatter) = formatters.get(zone) {
            return Ok(formatter.clone());
        }
        let options = Object::new();
        for (name, value) in [
            ("timeZone", zone),
            ("calendar", "gregory"),
            ("numberingSystem", "latn"),
            ("hourCycle", "h23"),
            ("year", "numeric"),
            ("month", "numeric"),
            ("day", "numeric"),
            ("hour", "numeric"),
            ("minute", "numeric"),
            ("second", "numeric"),
        ] {
            Reflect::set(&options, &name.into(), &value.into())?;
        }
        let intl = Reflect::get(&js_sys::global(), &"Intl".into())?;
        let class: Function = Reflect::get(&intl, &"DateTimeFormat".into())?.dyn_into()?;
        // This throws if there is no such zone.
        let formatter = Reflect::construct(&class, &Array::of2(&"en-US".into(), &options))?;
        if formatters.len() >= FORMATTERS_KEPT {
            formatters.clear();
        }
        formatters.insert(zone.to_owned(), formatter.clone());
        Ok(formatter)
    }
}

/// The local time at `at`, to the second, as milliseconds as if it were UTC.
fn local_time(formatter: &JsValue, at: Timestamp) -> Result<Option<i64>, JsValue> {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds fit in 53 bits")]
    let date = Date::new(&JsValue::from_f64(at.millis() as f64));
    let format: Function = Reflect::get(formatter, &"formatToParts".into())?.dyn_into()?;
    let parts: Array = format.call1(formatter, &date)?.dyn_into()?;
    let mut fields = HashMap::new();
    for part in parts.iter() {
        let kind: JsString = Reflect::get(&part, &"type".into())?.dyn_into()?;
        let value: JsString = Reflect::get(&part, &"value".into())?.dyn_into()?;
        if let Ok(number) = String::from(value).parse::<u32>() {
            fields.insert(String::from(kind), number);
        }
    }
    let field = |name: &str| fields.get(name).copied();
    let read = || {
        let (year, month, day) = (field("year")?, field("month")?, field("day")?);
        let (hour, minute, second) = (field("hour")?, field("minute")?, field("second")?);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        Timestamp::parse(&text).map(Timestamp::millis)
    };
    Ok(read())
}
