// The directory of a bucket on a file system: locked, so that one process alone writes it, and
// cleared of what a process that was killed left behind.

import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Problem } from "./settings.js";

/** How workerd names a file that it has not written to its end. */
const UNFINISHED = /^\..*\.tmp$/;

/**
 * Makes the directory fit to be written, and locks it; gives the descriptor of the lock, to be
 * inherited by workerd: the lock lives as long as either process. `setting` names it in problems.
 */
export function openDirectory(path, setting) {
  const unusable = (why) => new Problem(`the setting ${setting} must be ${why}: ${path}`);
  try {
    mkdirSync(path, { recursive: true });
    const upper = join(path, ".Case");
    writeFileSync(upper, "");
    const ignoresCase = existsSync(join(path, ".case"));
    rmSync(upper);
    if (ignoresCase) throw unusable("on a file system that tells upper from lower case");
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw unusable(`a directory that can be written (${error.code})`);
  }
  closeSync(openSync(join(path, ".lock"), "a"));
  // Not for writing: that would keep the file system from being made read-only.
  const lock = openSync(join(path, ".lock"), "r");
  if (!takeLock(lock)) {
    throw new Problem(
      `another process uses the directory of the setting ${setting}: ${path}. A directory has one ` +
        "process; several need STORAGE_TYPE=s3",
    );
  }
  clear(path);
  return lock;
}

/** Whether the file is now locked for this process and those that inherit the descriptor. */
function takeLock(descriptor) {
  const stdio = ["ignore", "ignore", "ignore", descriptor];
  // Node has no flock. A tool that is there takes it for us: the lock belongs to the open file.
  for (const [command, ...options] of [
    ["flock", "-n", "3"],
    ["perl", "-e", "open(my $f, '>&=', 3) && flock($f, 6) ? exit 0 : exit 1"],
  ]) {
    const { error, status } = spawnSync(command, options, { stdio });
    if (!error) return status === 0;
  }
  throw new Problem("the directory cannot be locked: install flock (of util-linux) or perl");
}

/** Removes unfinished files and empty folders; says whether the folder is empty now. */
export function clear(path, isTop = true) {
  let left = 0;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) {
      if (!clear(below, false)) left += 1;
    } else if (UNFINISHED.test(entry.name)) {
      rmSync(below);
    } else {
      left += 1;
    }
  }
  if (left === 0 && !isTop) rmdirSync(path);
  return left === 0;
}
