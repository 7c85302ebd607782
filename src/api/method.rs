//! The methods of HTTP that the routes take.

pub const DELETE: &str = "DELETE";
pub const GET: &str = "GET";
pub const HEAD: &str = "HEAD";
pub const OPTIONS: &str = "OPTIONS";
pub const PATCH: &str = "PATCH";
pub const POST: &str = "POST";
pub const PUT: &str = "PUT";
