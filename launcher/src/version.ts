/** Set by the bundler. */
declare const TYPEVISOR_VERSION: string | undefined;

/** Version of the launcher; "development" where it runs from its sources. */
export const launcherVersion = typeof TYPEVISOR_VERSION === "string" ? TYPEVISOR_VERSION : "development";
