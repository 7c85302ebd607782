// Keeps the exchange running: starts its runtime, and starts it again when it dies.

import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "./settings.js";

/** With so many deaths within so long it gives up. */
const DEATHS = 5;
const WITHIN_MS = 60_000;

export class Keeper {
  /** The runtime that is at work, or was the last. */
  #runtime;
  /** Whether it was told to stop: what ends then has not died. */
  isStopping = false;

  /** The runtime that `begin` makes, once it answers; throws what it said if it does not. */
  async start(begin) {
    if (this.isStopping) throw new Error("it was told to stop");
    this.#runtime = begin();
    await this.#runtime.untilUp();
    return this.#runtime;
  }

  /**
   * Starts the runtime again whenever it dies: at once, then after 1 s, 2 s, 4 s. `onDeath` hears how
   * it died and how long the pause is, `onUp` gets each new one. Ends when it is told to stop; throws
   * a problem when it gives up.
   */
  async keep(begin, { onDeath, onUp }) {
    let deaths = [];
    let reason = await this.#runtime.exited;
    while (!this.isStopping) {
      const now = performance.now();
      deaths = [...deaths.filter((at) => at > now - WITHIN_MS), now];
      if (deaths.length === DEATHS) {
        throw new Problem(
          `the runtime died ${DEATHS} times within a minute, the last time with ${reason}`,
        );
      }
      const pause = deaths.length === 1 ? 0 : 1_000 * 2 ** (deaths.length - 2);
      onDeath(reason, pause);
      await sleep(pause);
      reason = await this.#life(begin, onUp);
    }
  }

  /** One more life of the runtime, and how it ended. */
  async #life(begin, onUp) {
    try {
      onUp(await this.start(begin));
    } catch (error) {
      // Also where it lives and does not answer.
      await this.#runtime.stop();
      return error.message;
    }
    return this.#runtime.exited;
  }

  /** Ends the runtime for good; what it has begun it finishes. */
  async stop() {
    this.isStopping = true;
    await this.#runtime?.stop();
  }
}
