// x509's dependency injection needs the polyfill before it is loaded.
import "reflect-metadata";
import { createHash, X509Certificate as NodeCertificate, randomBytes, webcrypto } from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
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

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** Clocks of nodes differ a little. */
const BACKDATED_MS = 5 * 60_000;

/** A self-signed authority that may sign end certificates only. */
export async function createAuthority(commonName: string, nowMs: number, lifeMs: number): Promise<KeyPair> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: [{ CN: [commonName] }],
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + lifeMs),
      keys,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as Crypto),
      ],
    },
    webcrypto as Crypto,
  );
  return { certificate: certificate.toString("pem"), key: await privateKeyPem(keys.privateKey) };
}

/** A certificate signed by `authority`, with a new key. */
export async function issueCertificate(
  authority: KeyPair,
  subject: Subject,
  nowMs: number,
  lifeMs: number,
): Promise<KeyPair> {
  const issuer = new NodeCertificate(authority.certificate);
  const keys = await generateKeys();
  const signingKey = await webcrypto.subtle.importKey("pkcs8", derOf(authority.key), ALGORITHM, false, ["sign"]);
  const { server, client } = { server: ExtendedKeyUsage.serverAuth, client: ExtendedKeyUsage.clientAuth };
  const issuerKey = await webcrypto.subtle.importKey(
    "spki",
    new Uint8Array(issuer.publicKey.export({ type: "spki", format: "der" })),
    ALGORITHM,
    true,
    ["verify"],
  );
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [{ CN: [subject.commonName] }],
      issuer: [{ CN: [commonNameOf(issuer)] }],
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + lifeMs),
      publicKey: keys.publicKey,
      signingKey: signingKey as CryptoKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(subject.usages.map((usage) => (usage === "server" ? server : client))),
        await AuthorityKeyIdentifierExtension.create(issuerKey as CryptoKey, false, webcrypto as Crypto),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as Crypto),
        ...(subject.dnsNames.length === 0
          ? []
          : [new SubjectAlternativeNameExtension(subject.dnsNames.map((value) => ({ type: "dns" as const, value })))]),
      ],
    },
    webcrypto as Crypto,
  );
  return { certificate: certificate.toString("pem"), key: await privateKeyPem(keys.privateKey) };
}

/** When a PEM certificate is valid; throws where it is none. */
export function validityOf(certificate: string): Validity {
  const parsed = new NodeCertificate(certificate);
  return { notBeforeMs: parsed.validFromDate.getTime(), notAfterMs: parsed.validToDate.getTime() };
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

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN PRIVATE KEY-----", ...lines, "-----END PRIVATE KEY-----", ""].join("\n");
}

function derOf(pem: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64"));
}

/** Positive, at most 20 octets (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
