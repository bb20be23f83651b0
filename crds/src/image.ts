import { z } from "zod";
import { withRules } from "./rules.ts";

/** Longest path in an image, in characters. */
const PATH_MAX_LENGTH = 1024;

/** Fields of a Pod's image volume source (`pod.spec.volumes.image`): the kubelet pulls it as a container image. */
export const imageVolumeSource = z.strictObject({
  reference: withRules(
    z.string().min(1).max(1024).describe("Image reference by tag or digest, e.g. registry.example/debian:13."),
    {
      rule: "!self.matches('\\\\s')",
      message: "reference must be an image reference without white space, such as registry.example/debian:13",
    },
  ),
  pullPolicy: z
    .enum(["Always", "IfNotPresent", "Never"])
    .describe(
      "When the node pulls the image. Default, as in Pods: Always where the tag is latest or missing, IfNotPresent otherwise.",
    )
    .exactOptional(),
});

export type ImageVolumeSource = z.output<typeof imageVolumeSource>;

/** Absolute path of a file in an image. `field` is how messages call it. */
export function imagePath(field: string, description: string) {
  return withRules(
    z.string().min(2).max(PATH_MAX_LENGTH).describe(description),
    {
      rule: "self.startsWith('/') && !self.endsWith('/')",
      message: `${field} must be the absolute path of a file in the image, such as /boot/vmlinuz`,
    },
    {
      rule: "!self.matches('(^|/)[.][.](/|$)')",
      message: `${field} must not contain '..': it is resolved inside the image and cannot leave it`,
    },
  );
}
