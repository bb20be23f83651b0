import { z } from "zod";
import { isOnPodNetwork } from "./interface.ts";
import { exactlyOneOf, type Rule, withRules } from "./rules.ts";

const port = withRules(
  z
    .union([z.int(), z.string()])
    .meta({ "x-kubernetes-int-or-string": true })
    .describe("Port of the guest: a number, or the name of one in spec.interfaces[].masquerade.ports."),
  {
    rule: "type(self) == int ? self >= 1 && self <= 65535 : self.size() <= 15",
    message: "port must be a number from 1 to 65535, or the name of a port of the masquerade interface",
  },
);

const httpGet = z
  .strictObject({
    path: z.string().max(2048).describe("Path to ask for.").default("/"),
    port,
    scheme: z.enum(["HTTP", "HTTPS"]).describe("With HTTPS, any certificate is taken.").default("HTTP"),
    httpHeaders: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(256).describe("Name of the header."),
          value: z.string().max(4096).describe("Its value."),
        }),
      )
      .max(32)
      .describe("Headers of the request.")
      .exactOptional(),
  })
  .describe("Succeeds when a web server in the guest answers with a status from 200 to 399.");

const tcpSocket = z.strictObject({ port }).describe("Succeeds when the guest accepts a connection.");

const exec = z
  .strictObject({ command: z.array(z.string()).max(64).describe("Program and its arguments.").exactOptional() })
  .describe("A command in the guest; not available until there is an agent in guests.");

const handlers = { httpGet: httpGet.exactOptional(), tcpSocket: tcpSocket.exactOptional(), exec: exec.exactOptional() };

const times = (successThreshold: string) => ({
  initialDelaySeconds: z
    .int()
    .min(0)
    .describe("Seconds from the start of the pod, which is when the guest begins to boot, to the first probe.")
    .default(0),
  periodSeconds: z.int().min(1).describe("Seconds from one probe to the next.").default(10),
  timeoutSeconds: z.int().min(1).describe("Seconds after which a probe without an answer has failed.").default(1),
  successThreshold: z.int().min(1).describe(successThreshold).default(1),
  failureThreshold: z.int().min(1).describe("Probes that must fail in a row.").default(3),
});

export const readinessProbe = withRules(
  z
    .strictObject({ ...handlers, ...times("Probes that must succeed in a row for the guest to be ready.") })
    .describe(
      "When the guest is ready for traffic: its pod is in Services, and the condition Ready is True, only while this succeeds. Without it, while the guest runs. The node's kubelet asks, through the pod's IP.",
    ),
  exactlyOneOf("readinessProbe", Object.keys(handlers)),
);

export const livenessProbe = withRules(
  z
    .strictObject({ ...handlers, ...times("Must be 1, as in Pods.") })
    .describe(
      "When the guest is given up: it is stopped, with the grace period, and started again as runStrategy says for a crash. Give a boot and a reboot time: initialDelaySeconds, and periodSeconds times failureThreshold. The node's kubelet asks, through the pod's IP.",
    ),
  exactlyOneOf("livenessProbe", Object.keys(handlers)),
  {
    rule: "self.successThreshold == 1",
    message: "successThreshold must be 1 for a livenessProbe, as in Pods: remove it",
    fieldPath: ".successThreshold",
  },
);

const probes = ["readinessProbe", "livenessProbe"] as const;

/** CEL: the probe of the spec says a port that `holds`, an expression about it. */
function eachPort(probe: string, holds: (port: string) => string): string {
  const of = (handler: string) => {
    const given = `has(self.${probe}) && has(self.${probe}.${handler})`;
    return `!(${given}) || ${holds(`self.${probe}.${handler}.port`)}`;
  };
  return `(${of("httpGet")}) && (${of("tcpSocket")})`;
}

/** Rules of the spec that are about its probes. */
export const probeRules: readonly Rule[] = [
  ...probes.flatMap((probe): Rule[] => {
    const limited =
      "has(self.interfaces) && self.interfaces.exists(entry, has(entry.masquerade) && has(entry.masquerade.ports))";
    const listed = (condition: string) =>
      `self.interfaces.exists(entry, has(entry.masquerade) && has(entry.masquerade.ports) && entry.masquerade.ports.exists(port, port.protocol == 'TCP' && ${condition}))`;
    return [
      {
        rule: `!has(self.${probe}) || !has(self.interfaces) || self.interfaces.exists(entry, ${isOnPodNetwork("entry")})`,
        message: `spec.${probe} needs an interface on the pod network: add one with masquerade or podIP, or remove the probe`,
        fieldPath: `.${probe}`,
      },
      {
        rule: eachPort(
          probe,
          (port) =>
            `(type(${port}) == int ? (!(${limited}) || ${listed(`port.port == ${port}`)}) : (${limited}) && ${listed(`has(port.name) && port.name == ${port}`)})`,
        ),
        message: `the port of spec.${probe} must be a TCP port in spec.interfaces[].masquerade.ports, by name or, where the list is given, by number: add it there`,
        fieldPath: `.${probe}`,
      },
    ];
  }),
  {
    rule: "!(has(self.livenessProbe) && self.paused)",
    message:
      "spec.paused and spec.livenessProbe exclude each other: a guest that is paused answers no probe, and would be given up; remove the probe first",
    fieldPath: ".paused",
  },
];

export type Probe = z.output<typeof readinessProbe>;
