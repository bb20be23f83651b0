/**
 * Agent protocol: launcher to node agent over a unix stream socket. One JSON line asks, one JSON line answers,
 * with the file descriptors of all items, in the order asked, in the same message (SCM_RIGHTS): one an item, for a
 * tap what its grant says, and for an attachment what is offered.
 * Who asks is taken from the socket's peer credentials, never from the request.
 */

export const AGENT_PROTOCOL_VERSION = 1;

/** File name of the socket in the directory that the device plugin mounts into the pod. */
export const AGENT_SOCKET_NAME = "agent.sock";

/** Where the device plugin mounts that directory in a launcher's container. */
export const AGENT_MOUNT_PATH = "/run/typevisor/agent";

/** Extended resource whose allocation lets a pod reach the agent. */
export const KVM_RESOURCE = "devices.typevisor.io/kvm";

/** Longest request or answer line in bytes, newline included. */
export const AGENT_LINE_MAX_BYTES = 64 * 1024;

export interface AgentRequest {
  readonly version: typeof AGENT_PROTOCOL_VERSION;
  /** At most 16. */
  readonly want: readonly AgentWant[];
}

export type AgentWant =
  | { readonly kind: "kvm" }
  | { readonly kind: "userfaultfd" }
  /**
   * `path` is a device node in the asking container that belongs to one of its pod's own block volumes. Who writes claims it
   * (O_EXCL); with `exclusive`, who only reads does, too: nobody on the node may write to it meanwhile.
   */
  | {
      readonly kind: "block";
      readonly path: string;
      readonly readOnly: boolean;
      readonly direct: boolean;
      readonly exclusive?: boolean;
    }
  /** What the pod `podUid`, a holder on this node, offers to the asking pod (see AgentOffer); NotOffered while it does not. */
  | { readonly kind: "attachment"; readonly podUid: string }
  | TapWant;

/**
 * A request in place of `want`: hands files of the asking process to the pod `podUid` on this node, which has to ask for
 * them by the UID of this pod. Each names the other, and the kernel says who both are; so nobody else can take what is
 * offered, and nobody else can offer something in its place. It holds while the connection is open: who offers
 * connects again when the agent went away. Only regular files, and block volumes of the asking pod, can be offered.
 */
export interface AgentOffer {
  readonly version: typeof AGENT_PROTOCOL_VERSION;
  readonly offer: {
    readonly podUid: string;
    /** 1 to ATTACHMENT_FDS_MAX numbers of descriptors in the asking process. */
    readonly fds: readonly number[];
  };
}

/** As the API server makes them. */
export const POD_UID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export const ATTACHMENT_FDS_MAX = 2;

/**
 * A TAP in the asking pod's own network namespace, wired as `binding` says. It is made when it is missing and found again
 * when it is there (a container that was started anew asks the same); its wiring then becomes what is asked now.
 *
 * Whatever the launcher does, the agent's wiring lets only the guest's own MAC and addresses out of a masquerade or podIP
 * TAP, and no DHCP, DHCPv6 or router solicitation of the guest reaches the pod's network: the launcher answers those.
 */
export interface TapWant {
  readonly kind: "tap";
  /** The interface's name in the API: a DNS label, unique in the machine. */
  readonly name: string;
  /** 1 to TAP_QUEUES_MAX. */
  readonly queues: number;
  /** Asks for vhost-net as well, where the node has it. */
  readonly vhost: boolean;
  readonly binding: TapBinding;
}

export const TAP_QUEUES_MAX = 8;

export type TapBinding =
  /** The guest has the addresses of `masqueradeNetwork`, of the families that the pod has; NAT to and from the pod's. */
  | {
      readonly kind: "masquerade";
      /** The guest's. */
      readonly mac: string;
      /** What reaches the guest from outside; all but `ownPorts` when absent. At most PORTS_MAX. */
      readonly ports?: readonly GuestPort[];
      readonly ownPorts: readonly number[];
    }
  /** The guest has the pod's own addresses and MAC. */
  | { readonly kind: "podIP"; readonly ownPorts: readonly number[] }
  /** Bridged to another interface of the pod, e.g. "net1". */
  | { readonly kind: "multus"; readonly podInterface: string };

/** `ownPorts` above are TCP ports that the launcher listens on: they stay the pod's. At most PORTS_MAX. */
export const PORTS_MAX = 64;

export interface GuestPort {
  readonly protocol: "TCP" | "UDP" | "SCTP";
  readonly port: number;
}

/** Both ends of every masquerade link, the same on every node: the guest's neighbour entries outlive a migration. */
export const masqueradeNetwork = {
  gatewayMac: "02:00:00:00:00:01",
  ipv4: { guest: "10.0.2.2", gateway: "10.0.2.1", prefixLength: 24 },
  ipv6: {
    guest: "fd10:0:2::2",
    gateway: "fd10:0:2::1",
    prefixLength: 120,
    /** The agent gives it to the pod's end, too: it is the router in router advertisements. */
    gatewayLinkLocal: "fe80::1",
  },
} as const;

/**
 * Descriptors of a tap item, in this order: `queues` of the TAP (IFF_TAP, IFF_NO_PI and IFF_VNET_HDR, with several of them
 * IFF_MULTI_QUEUE too; non-blocking, the header's size set to VNET_HEADER_BYTES); then, if `vhost`, `queues` of
 * /dev/vhost-net and one answering TAP. The launcher sets offloads (TUNSETOFFLOAD), carrier (TUNSETCARRIER) and attaches
 * queues (TUNSETQUEUE) by itself.
 *
 * Answering TAP: IFF_TAP, IFF_NO_PI, non-blocking, without a header: one read(2) is one frame, one write(2) another. With
 * vhost-net the launcher does not see the guest's frames; here it gets those that it has to answer, and what it writes goes
 * to the guest alone. The agent's wiring brings these from the guest: IPv4 UDP to port 67, IPv6 UDP to port 547, ICMPv6
 * types 133 (router solicitation) and 135 (neighbour solicitation). It is no packet socket, which whoever holds it could
 * bind to the pod's own interface.
 */
export interface TapGrant {
  readonly name: string;
  /** The TAP's name in the pod's network namespace, for its statistics. */
  readonly device: string;
  /** What the guest's interface shall have: that of the pod's interface behind it. */
  readonly mtuBytes: number;
  /** Whether descriptors of vhost-net and an answering TAP follow. */
  readonly vhost: boolean;
  /** The MAC that the guest must use, where it is not free: podIP, and multus on a macvlan. */
  readonly mac?: string;
  /** What the guest shall be told by DHCP and router advertisements; absent where the network beyond does that. */
  readonly guest?: GuestAddresses;
}

export const VNET_HEADER_BYTES = 12;

/** DNS servers and search domains are not among it: the launcher reads them from its own /etc/resolv.conf. */
export interface GuestAddresses {
  readonly ipv4?: GuestIpv4;
  readonly ipv6?: GuestIpv6;
}

export interface GuestIpv4 {
  readonly address: string;
  /** 32 with a link-local gateway on some networks. */
  readonly prefixLength: number;
  /** Of the default route. */
  readonly gateway?: string;
  readonly routes?: readonly GuestRoute[];
}

export interface GuestIpv6 {
  readonly address: string;
  readonly prefixLength: number;
  /** Of the default route. */
  readonly gateway?: string;
  /**
   * Required with a gateway that is not link-local, since a router advertisement names its router by a link-local address:
   * the launcher then makes one up, and answers for it with this MAC.
   */
  readonly gatewayMac?: string;
  readonly routes?: readonly GuestRoute[];
}

/** Besides the default route. Without a gateway the destination is on the link. */
export interface GuestRoute {
  /** ADDRESS/PREFIXLENGTH. */
  readonly destination: string;
  readonly gateway?: string;
}

export type AgentAnswer =
  | {
      readonly version: typeof AGENT_PROTOCOL_VERSION;
      readonly ok: true;
      readonly agentVersion: string;
      /** One for each tap item, in order; absent without one. */
      readonly taps?: readonly TapGrant[];
    }
  | { readonly version: typeof AGENT_PROTOCOL_VERSION; readonly ok: false; readonly error: AgentError };

export interface AgentError {
  readonly code: AgentErrorCode;
  readonly message: string;
  /** Index in `want` of the item that failed; absent when the request as a whole did. */
  readonly item?: number;
}

export type AgentErrorCode =
  | "BadRequest"
  | "UnsupportedVersion"
  | "NotAPod"
  | "NotAuthorized"
  | "DeviceMissing"
  /** A block device that is to be claimed is claimed on the node already. */
  | "DeviceBusy"
  /** Nobody offers the attachment, or not yet. */
  | "NotOffered"
  /** The pod's network is not what the tap item needs: an interface or address is missing, or of an unknown kind. */
  | "NetworkUnfit"
  | "Internal";
