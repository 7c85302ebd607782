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
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Problem } from "./settings.js";

/** How workerd names a file that it has not written to its end. */
const UNFINISHED = /^\..*\.tmp$/;

/**
 * The top-level folders that the exchange and its tools write; others are none of ours. The layout
 * of the bucket in src/storage/ has the same, which a test compares: strings only, one a line.
 */
export const FOLDERS = [
  "attempts",
  "audit",
  "capabilities",
  "conformance",
  "derived",
  "due",
  "events",
  "exchanges",
  "executors",
  "external",
  "index",
  "invitations",
  "keys",
  "streaks",
  "threads",
];

/**
 * Makes the directory fit to be written, and locks it; gives the descriptor of the lock, to be
 * inherited by workerd: the lock lives as long as either process. `setting` names it in problems.
 * From here on, what this process and workerd write is for their user alone.
 */
export function openDirectory(path, setting) {
  const unusable = (why) => new Problem(`the setting ${setting} must be ${why}: ${path}`);
  process.umask(0o077);
  try {
    mkdirSync(path, { recursive: true });
    const { uid } = statSync(path);
    if (process.getuid() === 0 && uid !== 0) {
      throw unusable(
        `a directory of root's to be used by root: this is user ${uid}'s, be that user`,
      );
    }
    const upper = join(path, ".Case");
    writeFileSync(upper, "");
    const ignoresCase = existsSync(join(path, ".case"));
    rmSync(upper, { force: true });
    if (ignoresCase) throw unusable("on a file system that tells upper from lower case");
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
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw unusable(`a directory that can be read and written (${error.code} ${error.path ?? ""})`);
  }
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

/** Removes unfinished files and empty folders from `folders` below `path`. */
export function clear(path, folders = FOLDERS) {
  for (const name of folders) {
    const folder = join(path, name);
    if (existsSync(folder)) clearFolder(folder);
  }
}

/** The same of one folder; says whether it was removed. */
function clearFolder(folder) {
  let left = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!clearFolder(path)) left += 1;
    } else if (UNFINISHED.test(entry.name)) {
      rmSync(path);
    } else {
      left += 1;
    }
  }
  if (left === 0) rmdirSync(folder);
  return left === 0;
}
