import type { DiskState, InterfaceStatus } from "../../../api/control.ts";
import type { InterfaceConfig, LinkState } from "../../../api/machine-config.ts";
import { ipv6Bytes, macBytes } from "../../net/addresses.ts";
import { Advertiser } from "../../net/advertiser.ts";
import { announcementsOf } from "../../net/announcement.ts";
import { AnsweringTap } from "../../net/answering-tap.ts";
import { DeviceCounters } from "../../net/device-counters.ts";
import { FrameFilter } from "../../net/frame-filter.ts";
import { type GuestNetwork, guestNetwork } from "../../net/guest-network.ts";
import { LinkServices } from "../../net/link-services.ts";
import { NetworkError, type NetworkLink } from "../../net/network-link.ts";
import type { Resolver } from "../../net/resolver.ts";
import { TapQueue } from "../../net/tap.ts";
import { VhostNet } from "../../net/vhost-net.ts";
import { writePacket } from "../../sys/frame-io.ts";
import { VirtioPciDevice, type VirtioPciHost } from "../transport/virtio-pci-device.ts";
import { Announcer } from "./announcer.ts";
import type { DataPath } from "./data-path.ts";
import { NET_QUEUE_SIZE, NetDevice } from "./device.ts";
import { InProcessPath } from "./in-process-path.ts";
import type { NetworkUse } from "./network-use.ts";
import { VNET_HEADER_BYTES } from "./protocol.ts";
import { SwitchablePath } from "./switchable-path.ts";
import { VhostPath } from "./vhost-path.ts";

export interface InterfaceReport extends NetworkUse {
  readonly name: string;
}

/** No interface of the machine has that name. */
export class UnknownInterface extends Error {
  readonly interfaceName: string;
  constructor(name: string, known: readonly string[]) {
    super(`there is no interface ${name}; known are ${known.join(", ") || "none"}`);
    this.name = "UnknownInterface";
    this.interfaceName = name;
  }
}

export interface InterfaceParts {
  readonly config: InterfaceConfig;
  readonly link: NetworkLink;
  readonly resolver: Resolver;
  readonly host: VirtioPciHost;
}

/** One network interface: the device, what carries its frames, and what answers for its network. */
export class NetworkInterface implements Disposable {
  readonly name: string;
  readonly config: InterfaceConfig;
  readonly device: NetDevice;
  /** `device` on the PCI bus. */
  readonly pciDevice: VirtioPciDevice;
  /** The guest was asked to give it up. */
  isUnwanted = false;
  /** It came while the guest ran, which may not have found it yet. */
  isNews = false;
  #closing: Promise<void> | undefined;
  readonly #link: NetworkLink;
  readonly #mac: string;
  readonly #path: DataPath;
  /** With vhost-net. */
  readonly #switch: SwitchablePath | undefined;
  readonly #answering: AnsweringTap | undefined;
  readonly #taps: readonly TapQueue[];
  readonly #announcer: Announcer;
  readonly #advertiser: Advertiser | undefined;

  /** `link` is the interface's from now on, also when this throws: NetworkError where the link is not what it must be. */
  constructor({ config, link, resolver, host }: InterfaceParts) {
    using cleanup = new DisposableStack();
    cleanup.use(link);
    this.name = config.name;
    this.config = config;
    this.#link = link;
    this.#mac = link.mac ?? config.mac;
    const { mtuBytes } = link;
    const guest = networkOf(config.name, link, { mac: this.#mac, resolver, dhcp: config.dhcp });
    const services = guest && new LinkServices(guest);
    const filter = filterOf(this.#mac, link, guest);
    const taps = link.taps.map((fd) => cleanup.use(new TapQueue(fd)));
    this.#taps = taps;
    const answer = (frame: Uint8Array) => services?.answer(frame) ?? null;
    const { limits } = config;
    // What has to wait for its limit is not to be looked at meanwhile.
    const poller = limits ? undefined : host.poller;
    const inProcess = cleanup.use(
      new InProcessPath({ taps, chainLimit: NET_QUEUE_SIZE, mtuBytes, limits, filter, poller, answer }),
    );
    const vhost = link.vhosts.length > 0 ? cleanup.use(vhostPath(link, taps, cleanup)) : undefined;
    this.#switch = vhost && cleanup.use(new SwitchablePath(vhost, inProcess, taps.length));
    this.#path = this.#switch ?? inProcess;
    const answering = link.answeringTap && services && cleanup.use(new AnsweringTap(link.answeringTap, answer));
    this.#answering = answering;
    const advertise = () => {
      const frame = services?.advertisement();
      if (!frame) return;
      if (this.#path.name === "inProcess") inProcess.deliver(frame);
      else answering?.send(frame);
    };
    this.#advertiser = services && cleanup.use(new Advertiser(advertise));
    const announcements = announcementsOf(macBytes(this.#mac), guest?.ipv4?.address);
    this.#announcer = cleanup.use(new Announcer(announcements, (frame) => this.#sendAsGuest(frame)));
    this.device = new NetDevice({
      name: config.name,
      mac: macBytes(this.#mac),
      mtuBytes,
      pairs: this.#taps.length,
      link: config.link,
      path: this.#path,
      isPolled: poller !== undefined,
      onStart: () => this.#advertiser?.start(),
      onArrival: () => {
        this.#announcer.start();
        this.#advertiser?.start();
      },
    });
    this.pciDevice = new VirtioPciDevice(this.device, host);
    cleanup.move();
  }

  get state(): DiskState {
    if (this.isUnwanted) return "Detaching";
    return this.isNews && !this.device.hadDriver ? "Attaching" : "Attached";
  }

  status(): InterfaceStatus {
    const { guest, mtuBytes } = this.#link;
    return {
      name: this.name,
      state: this.state,
      mac: this.#mac,
      link: this.device.link,
      mtuBytes,
      queues: this.#taps.length,
      dataPath: this.#path.name,
      addresses: [guest?.ipv4?.address, guest?.ipv6?.address].filter((address) => address !== undefined),
    };
  }

  /** Whether what it writes to guest memory must be in the dirty bitmap; from `true` on it is. */
  setLogged(isLogged: boolean): void {
    this.#switch?.setLogged(isLogged);
  }

  /** As if the guest had sent it, whichever path carries its frames; one that finds no room is lost. */
  #sendAsGuest(frame: Uint8Array): void {
    const [tap] = this.#taps;
    if (tap && this.device.link === "up")
      writePacket(tap.fd, Buffer.concat([new Uint8Array(VNET_HEADER_BYTES), frame]));
  }

  report(): InterfaceReport {
    return { name: this.name, ...this.#path.use() };
  }

  /** Waits for what is under way and lets go of the link, once. The guest cannot reach the device any more. */
  close(): Promise<void> {
    this.#closing ??= this.pciDevice.reset().then(() => this[Symbol.dispose]());
    return this.#closing;
  }

  [Symbol.dispose](): void {
    this.#advertiser?.[Symbol.dispose]();
    this.#announcer[Symbol.dispose]();
    this.#path[Symbol.dispose]();
    this.#answering?.[Symbol.dispose]();
    for (const tap of this.#taps) tap[Symbol.dispose]();
    this.#link[Symbol.dispose]();
  }
}

function vhostPath(link: NetworkLink, taps: readonly TapQueue[], cleanup: DisposableStack): VhostPath {
  const vhosts = link.vhosts.map((fd) => cleanup.use(new VhostNet(fd)));
  return new VhostPath({ taps, vhosts, counters: new DeviceCounters(link.device) });
}

function networkOf(
  name: string,
  { guest, mtuBytes }: NetworkLink,
  parts: { mac: string; resolver: Resolver; dhcp: InterfaceConfig["dhcp"] },
): GuestNetwork | undefined {
  if (!guest) return undefined;
  try {
    return guestNetwork({ ...parts, mtuBytes, addresses: guest });
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    throw new NetworkError(name, `the addresses of its network are wrong: ${problem}`, { cause: error });
  }
}

function filterOf(mac: string, link: NetworkLink, guest: GuestNetwork | undefined): FrameFilter | undefined {
  if (!guest) return undefined;
  const { ipv4, ipv6 } = guest;
  const identity = {
    mac: macBytes(mac),
    ...(ipv4 && { ipv4: ipv4.address }),
    ...(ipv6 && { ipv6: ipv6.address, router: ipv6.router?.address ?? ipv6Bytes("fe80::1") }),
  };
  const standsForRouter = ipv6?.router?.isMadeUp ?? false;
  return new FrameFilter(identity, { drops: link.isFiltered, serves: true, standsForRouter });
}

/** The interfaces of a machine, for those who look after it. */
export class Interfaces {
  readonly #interfaces: NetworkInterface[];
  #isLogged = false;

  /** In the order of the configuration. */
  constructor(interfaces: readonly NetworkInterface[]) {
    this.#interfaces = [...interfaces];
  }

  get all(): readonly NetworkInterface[] {
    return this.#interfaces;
  }

  /** Behind the others. */
  add(each: NetworkInterface): void {
    this.#interfaces.push(each);
    each.setLogged(this.#isLogged);
  }

  remove(each: NetworkInterface): void {
    const index = this.#interfaces.indexOf(each);
    if (index >= 0) this.#interfaces.splice(index, 1);
  }

  find(name: string): NetworkInterface | undefined {
    return this.#interfaces.find((each) => each.name === name);
  }

  /** Throws UnknownInterface. */
  get(name: string): NetworkInterface {
    const found = this.find(name);
    if (found) return found;
    throw new UnknownInterface(
      name,
      this.#interfaces.map((each) => each.name),
    );
  }

  status(): readonly InterfaceStatus[] {
    return this.#interfaces.map((each) => each.status());
  }

  /** What each has carried, in order. */
  use(): readonly InterfaceReport[] {
    return this.#interfaces.map((each) => each.report());
  }

  /** From `true` on all that interfaces write to guest memory is in the dirty bitmap, as a migration needs it. */
  setLogged(isLogged: boolean): void {
    this.#isLogged = isLogged;
    for (const each of this.#interfaces) each.setLogged(isLogged);
  }

  /** The guest is told when it returns. Throws UnknownInterface. */
  setLink(name: string, link: LinkState): void {
    this.get(name).device.setLink(link);
  }
}
