// A line on stderr that tells how far something is: rewritten in place on a terminal, and
// otherwise written once, at the end.

const WIDTH = 24;

export class Progress {
  constructor(what, total) {
    Object.assign(this, { what, total, done: 0 });
  }

  show(done) {
    this.done = done;
    if (process.stderr.isTTY) process.stderr.write(`\r${this.#line()}\x1b[K`);
  }

  end() {
    process.stderr.write(process.stderr.isTTY ? "\n" : `${this.#line()}\n`);
  }

  #line() {
    const done = this.done.toLocaleString("en");
    if (!this.total) return `${this.what}: ${done}`;
    const share = Math.min(1, this.done / this.total);
    const full = Math.round(share * WIDTH);
    const bar = `${"#".repeat(full)}${"-".repeat(WIDTH - full)}`;
    return `${this.what}: [${bar}] ${done} / ${this.total.toLocaleString("en")}`;
  }
}
