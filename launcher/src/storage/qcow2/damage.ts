/** Told what is wrong with an image when a read meets it, which fails with EIO then. As often as that is read. */
export type DamageReport = (problem: string) => void;
