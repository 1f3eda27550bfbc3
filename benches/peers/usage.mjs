// What a process on this machine takes, as Linux tells it; NaN where it does not.

import { readFileSync, writeFileSync } from 'node:fs';

const TICK_MS = 10;

function read(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** Milliseconds of processor time that a process has had, of all its threads. */
export function processorTime(pid) {
  // The name of the program may hold spaces; what follows it does not.
  const fields = read(pid, 'stat').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Resident memory in MiB: now, and the most there was since `forgetPeak`. */
export function memory(pid) {
  const status = read(pid, 'status');
  const mib = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024;
  return { now: mib('VmRSS'), peak: mib('VmHWM') };
}

/** Lets the peak begin at what there is now. */
export function forgetPeak(pid) {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // Then starting the process counts as well.
  }
}
