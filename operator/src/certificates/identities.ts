/** Common name of the operator's client certificate: launchers let it in. */
export const OPERATOR_COMMON_NAME = "typevisor-operator";

/** Common name of a machine's certificate; no machine's name can make it the operator's. */
export function machineCommonName(uid: string): string {
  return `machine:${uid}`;
}

/** DNS name in a machine's certificate, by which callers check that they speak to that very machine. */
export function machineServerName(uid: string): string {
  return `${uid}.machine.typevisor.internal`;
}
