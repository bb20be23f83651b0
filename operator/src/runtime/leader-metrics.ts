import { Gauge, type Registry } from "prom-client";

/** Registers `leader_election_master_status` under client-go's name; returns how to set it. */
export function leaderMetrics(registry: Registry, lease: string): (leads: boolean) => void {
  const status = new Gauge({
    name: "leader_election_master_status",
    help: "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease.",
    labelNames: ["name"],
    registers: [registry],
  });
  const set = (leads: boolean) => status.set({ name: lease }, leads ? 1 : 0);
  set(false);
  return set;
}
