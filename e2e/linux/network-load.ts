import type { NetworkPeer } from "./network-peer.ts";

/** An emulated node and its guest are in no hurry; what they are late with is not lost. */
const WRK_TIMEOUT_S = 60;
/** wrk knows no number of requests: it runs as often as it takes. */
const WRK_SECONDS = 5;
const WEB_DEADLINE_MS = 600_000;
const IPERF_SECONDS = 2;

/** Host of a URL: IPv6 addresses stand in brackets. */
const hostOf = (address: string) => (address.includes(":") ? `[${address}]` : address);

export interface WebLoad {
  readonly requests: number;
  /** What wrk says of connections that failed, and of answers that did not come or said something else than 200. */
  readonly errors: readonly string[];
}

/** `requests` requests or more from the peer to the web server of `address`, over connections that stay open. */
export async function loadWeb(peer: NetworkPeer, address: string, requests: number): Promise<WebLoad> {
  const options = `--threads 1 --connections 8 --duration ${WRK_SECONDS}s --timeout ${WRK_TIMEOUT_S}s`;
  const giveUpAt = performance.now() + WEB_DEADLINE_MS;
  const errors: string[] = [];
  let answered = 0;
  while (answered < requests && errors.length === 0 && performance.now() < giveUpAt) {
    const said = await peer.run(`wrk ${options} http://${hostOf(address)}/`);
    const [, count] = /^\s*(\d+) requests in /m.exec(said) ?? [];
    if (count === undefined) throw new Error(`wrk: ${said}`);
    answered += Number(count);
    errors.push(...said.split("\n").filter((line) => /Socket errors|Non-2xx/.test(line)));
  }
  return { requests: answered, errors };
}

export interface Stream {
  readonly address: string;
  readonly protocol: "TCP" | "UDP";
  readonly way: "to the guest" | "from the guest";
}

/** What came of a stream of a few seconds between the peer and iperf3's server in the guest: bytes of TCP, packets of UDP. */
export async function received(peer: NetworkPeer, { address, protocol, way }: Stream): Promise<number> {
  const options = [
    ...(protocol === "UDP" ? ["--udp", "--bitrate 2M"] : []),
    ...(way === "from the guest" ? ["--reverse"] : []),
  ];
  const { streams } = await iperf((line) => peer.run(line), address, `--time ${IPERF_SECONDS} ${options.join(" ")}`);
  const [stream] = streams ?? [];
  return protocol === "TCP"
    ? (stream?.receiver?.bytes ?? 0)
    : (stream?.udp?.packets ?? 0) - (stream?.udp?.lost_packets ?? 0);
}

/** Runs iperf3 against the server at `address`; `run` runs a line of shell where it is to be. Throws with what iperf3 says. */
export async function iperf(
  run: (line: string) => Promise<string>,
  address: string,
  options: string,
): Promise<IperfResult> {
  const said = await run(`iperf3 --json --client ${address} ${options} || true`);
  const { error, end }: IperfReport = JSON.parse(said);
  if (error !== undefined || end === undefined) throw new Error(`iperf3 with ${address}, ${options}: ${error ?? said}`);
  return end;
}

/** Of iperf3's JSON, 3.12 or later. */
interface IperfReport {
  readonly error?: string;
  readonly end?: IperfResult;
}

export interface IperfResult {
  readonly streams?: readonly {
    readonly receiver?: { readonly bytes: number };
    readonly udp?: { readonly packets: number; readonly lost_packets: number };
  }[];
  /** Of all streams. */
  readonly sum_received?: { readonly bytes: number };
}
