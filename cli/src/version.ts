/** Set by the bundler. */
declare const TYPEVISOR_VERSION: string | undefined;

/** Version of kubectl-vm; "development" where it runs from its sources. */
export const cliVersion = typeof TYPEVISOR_VERSION === "string" ? TYPEVISOR_VERSION : "development";
