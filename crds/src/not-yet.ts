import type { Rule } from "./rules.ts";

/** A rule of this version only. `at` is the schema node that it belongs to: dots between fields, [] for a list's entries. */
export interface NotYet extends Rule {
  readonly at: string;
}

/** `field` of the node `at` is in the API and does not work yet: refused, never ignored. */
function absent(at: string, field: string, wayOut: string): NotYet {
  return {
    at,
    rule: `!has(self.${field})`,
    message: `${at}.${field} is not available in this version: ${wayOut}`,
    fieldPath: `.${field}`,
  };
}

const useImage = "use image, a read-only disk image whose changes go with the pod";

/** What the API has and this version does not do. Making one work is to delete its line. */
export const notYet: readonly NotYet[] = [
  {
    at: "spec",
    rule: "has(self.boot) && has(self.boot.kernel)",
    message: "spec.boot.kernel is required in this version: firmware boot from a disk is not available yet",
  },
  {
    at: "spec",
    rule: "!has(self.evictionStrategy) || self.evictionStrategy == 'None'",
    message: "spec.evictionStrategy must be None in this version: live migration is not available yet",
    fieldPath: ".evictionStrategy",
  },
  {
    at: "spec",
    rule: "!has(self.interfaces) || self.interfaces.size() == 0",
    message: "spec.interfaces is not available in this version: the guest has no network yet, remove the field",
    fieldPath: ".interfaces",
  },
  absent("spec.disks[]", "persistentVolumeClaim", useImage),
  absent("spec.disks[]", "emptyDisk", useImage),
  absent("spec.disks[]", "cloudInit", "put the configuration into the image or on the kernel command line"),
  absent("spec.disks[]", "configMap", "put the data into the image"),
  absent("spec.disks[]", "secret", "put the data into the image"),
];
