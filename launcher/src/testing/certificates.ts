// x509's dependency injection needs the polyfill before it is loaded.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  BasicConstraintsExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export interface KeyAndCertificate {
  readonly key: string;
  readonly cert: string;
}

/** A certificate authority of a test's own. */
export class TestAuthority {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: X509Certificate;

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.#keys = keys;
    this.#certificate = certificate;
  }

  static async create(): Promise<TestAuthority> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned(
      {
        name: "CN=test-ca",
        keys,
        signingAlgorithm: algorithm,
        ...validity(),
        extensions: [new BasicConstraintsExtension(true, undefined, true)],
      },
      webcrypto as Crypto,
    );
    return new TestAuthority(keys, certificate);
  }

  get certificate(): string {
    return this.#certificate.toString("pem");
  }

  /** A certificate for `subject`, such as "CN=operator", that is good for 127.0.0.1. */
  async issue(subject: string): Promise<KeyAndCertificate> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create(
      {
        subject,
        issuer: this.#certificate.subject,
        publicKey: keys.publicKey,
        signingKey: this.#keys.privateKey,
        signingAlgorithm: algorithm,
        ...validity(),
        extensions: [new SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }])],
      },
      webcrypto as Crypto,
    );
    const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
    const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, "$&\n")}\n-----END PRIVATE KEY-----\n`;
    return { key, cert: certificate.toString("pem") };
  }
}

/** A directory of files that change all at once, as the kubelet writes a Secret: by a link to the current version. */
export class SecretDirectory {
  readonly path: string;
  #version = 0;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path);
  }

  write(files: Readonly<Record<string, string>>): void {
    const version = `..version-${++this.#version}`;
    mkdirSync(join(this.path, version));
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(join(this.path, version, name), text);
      if (this.#version === 1) symlinkSync(`..data/${name}`, join(this.path, name));
    }
    symlinkSync(version, join(this.path, "..data~"));
    renameSync(join(this.path, "..data~"), join(this.path, "..data"));
    if (this.#version > 1) rmSync(join(this.path, `..version-${this.#version - 1}`), { recursive: true });
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<webcrypto.CryptoKeyPair>;
}

function validity(): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) };
}
