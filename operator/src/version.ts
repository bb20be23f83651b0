/** Set by the bundler. */
declare const TYPEVISOR_VERSION: string | undefined;

/** Version of the operator; "development" where it runs from its sources. */
export const operatorVersion = typeof TYPEVISOR_VERSION === "string" ? TYPEVISOR_VERSION : "development";
