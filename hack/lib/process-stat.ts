/** Of the times below: sysconf(_SC_CLK_TCK) is 100 on every Linux. */
export const TICKS_PER_SECOND = 100;

/** What /proc/PID/stat tells (proc_pid_stat(5)); of a task's, likewise. */
export interface ProcessStat {
  /** Z for a zombie. */
  readonly state: string;
  /** utime and stime: a guest's time is in it. */
  readonly cpuTicks: number;
  /** The same of children that have ended. */
  readonly childrenTicks: number;
  /** With the process number it names a process for good. */
  readonly startTicks: string;
}

/** Reads a line of it. The command in brackets may hold spaces and brackets itself. */
export function parseProcessStat(stat: string): ProcessStat {
  const [state = "", ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [user, system, childrenUser, childrenSystem] = fields.slice(10, 14).map(Number);
  return {
    state,
    cpuTicks: Number(user) + Number(system),
    childrenTicks: Number(childrenUser) + Number(childrenSystem),
    startTicks: fields[18] ?? "",
  };
}
