import { API_GROUP } from "../../../crds/src/names.ts";
import type { PersistentVolumeClaim } from "../runtime/wire.ts";

/** What the importing controller writes on a claim, and the controller of machines reads. */
export const importAnnotations = {
  /** How far the import is, for a person; from when on the claim may be consumed. */
  state: "typevisor.io/import-state",
  /** Name of the volume that was filled: the claim is good once it is bound to that one. */
  volume: "typevisor.io/imported-volume",
} as const;

/** Begins the state of a claim whose storage would give it an empty volume. */
export const REFUSED = "Refused: ";

/** Begins the state of a claim whose import waits for somebody: its claim is too small, its checksum differs. */
export const FAILED = "Failed: ";

/** A claim that begins with the disk of a VirtualMachineImage. */
export interface ClaimImport {
  readonly imageName: string;
  readonly state: string | undefined;
  readonly isPopulated: boolean;
}

/** Undefined for a claim that names no VirtualMachineImage in dataSourceRef. */
export function claimImportOf({ metadata, spec }: PersistentVolumeClaim): ClaimImport | undefined {
  const source = spec?.dataSourceRef;
  if (source?.apiGroup !== API_GROUP || source.kind !== "VirtualMachineImage") return undefined;
  const volume = metadata?.annotations?.[importAnnotations.volume];
  return {
    imageName: source.name,
    state: metadata?.annotations?.[importAnnotations.state],
    isPopulated: volume !== undefined && volume === spec?.volumeName,
  };
}
