// A pseudo-terminal, to see what a person sees.

import { spawn } from "node:child_process";
import { collect } from "./selfhosted.js";

const WITHIN_MS = 30_000;
const PYTHON = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/**
 * Runs a command at a terminal; gives {code, screen}, what was written with plain line ends. As soon
 * as `until` matches that, Ctrl-C is pressed.
 */
export async function atTerminal(command, env, until) {
  const { PATH, HOME } = process.env;
  const child = spawn("python3", ["-c", PYTHON, ...command], { env: { PATH, HOME, ...env } });
  let screen = "";
  let pressed = false;
  child.stdout.on("data", (text) => {
    screen += String(text).replaceAll("\r\n", "\n");
    if (pressed || !until?.test(screen)) return;
    pressed = true;
    child.stdin.write("\x03");
  });
  const late = setTimeout(() => child.kill(), WITHIN_MS);
  const { code, stderr } = await collect(child);
  clearTimeout(late);
  child.stdin.end();
  return { code, screen, stderr };
}
