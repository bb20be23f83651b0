// x509's dependency injection needs the polyfill before it is loaded.
import "reflect-metadata";
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate as NodeCertificate,
  randomBytes,
  webcrypto,
} from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** A certificate and its private key (PKCS #8), both PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What a certificate is to be for. */
export interface Subject {
  readonly commonName: string;
  /** Names by which a server is checked; none for a client. */
  readonly dnsNames: readonly string[];
  readonly usages: readonly ("client" | "server")[];
}

const CURVE = "P-256";
const ALGORITHM = { name: "ECDSA", namedCurve: CURVE, hash: "SHA-256" } as const;
/** Uncompressed (SEC 1, 2.3.3). */
const P256_POINT_BYTES = 65;
/** Clocks of nodes differ, by minutes on a bad day. */
const BACKDATED_MS = 3_600_000;

/** A self-signed authority that may sign end certificates only. */
export async function createAuthority(commonName: string, nowMs: number, lifeMs: number): Promise<KeyPair> {
  const keys = generateKeyPairSync("ec", { namedCurve: CURVE });
  return await sign(keys, { privateKey: keys.privateKey, commonName }, commonName, nowMs, lifeMs, [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  ]);
}

/** A certificate signed by `authority`, with a new key. */
export async function issueCertificate(
  authority: KeyPair,
  subject: Subject,
  nowMs: number,
  lifeMs: number,
): Promise<KeyPair> {
  const issuer = new NodeCertificate(authority.certificate);
  const keys = generateKeyPairSync("ec", { namedCurve: CURVE });
  const signer = { privateKey: createPrivateKey(authority.key), commonName: commonNameOf(issuer) };
  const usages = subject.usages.map((usage) =>
    usage === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth,
  );
  const names = subject.dnsNames.map((value) => ({ type: "dns" as const, value }));
  return await sign(keys, signer, subject.commonName, nowMs, lifeMs, [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension(usages),
    new AuthorityKeyIdentifierExtension(keyIdentifier(issuer.publicKey)),
    ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
  ]);
}

async function sign(
  keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject },
  signer: { readonly privateKey: KeyObject; readonly commonName: string },
  commonName: string,
  nowMs: number,
  lifeMs: number,
  extensions: readonly Extension[],
): Promise<KeyPair> {
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [{ CN: [commonName] }],
      issuer: [{ CN: [signer.commonName] }],
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + lifeMs),
      publicKey: new PublicKey(spkiOf(keys.publicKey)),
      signingKey: signer.privateKey.toCryptoKey(ALGORITHM, false, ["sign"]) as CryptoKey,
      signingAlgorithm: ALGORITHM,
      extensions: [...extensions, new SubjectKeyIdentifierExtension(keyIdentifier(keys.publicKey))],
    },
    webcrypto as Crypto,
  );
  const key = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  return { certificate: `${certificate.toString("pem")}\n`, key };
}

/** When a PEM certificate is valid; throws where it is none. */
export function validityOf(certificate: string): Validity {
  const parsed = new NodeCertificate(certificate);
  return { notBeforeMs: parsed.validFromDate.getTime(), notAfterMs: parsed.validToDate.getTime() };
}

/** When a certificate was made. */
export function issuedAtMs({ notBeforeMs }: Validity): number {
  return notBeforeMs + BACKDATED_MS;
}

/** When two thirds of a certificate's life are over. */
export function renewalTimeMs({ notBeforeMs, notAfterMs }: Validity): number {
  return Math.floor(notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3);
}

/** Short name for a set of certificates. */
export function fingerprint(pem: string): string {
  return createHash("sha256").update(pem).digest("hex").slice(0, 16);
}

function commonNameOf(certificate: NodeCertificate): string {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? "";
}

function spkiOf(publicKey: KeyObject): Uint8Array<ArrayBuffer> {
  return new Uint8Array(publicKey.export({ type: "spki", format: "der" }));
}

/** SHA-1 of the public key's bits, in hexadecimal (RFC 5280, 4.2.1.2, method 1). A P-256 point ends its SPKI. */
function keyIdentifier(publicKey: KeyObject): string {
  return createHash("sha1").update(spkiOf(publicKey).subarray(-P256_POINT_BYTES)).digest("hex");
}

/** Positive, at most 20 octets (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
