import "reflect-metadata";
import { generateKeyPairSync, type webcrypto } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { familyAddresses, type NodeIdentity } from "./layout.ts";
import { multusCertificate } from "./multus/multus.ts";
import { writeAtomic } from "./state.ts";
import { localPathUser } from "./storage/local-path.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const yearMs = 365 * 24 * 3600 * 1000;

interface Authority {
  certificate: X509Certificate;
  keys: webcrypto.CryptoKeyPair;
}

interface Leaf {
  file: string;
  commonName: string;
  organisation?: string;
  /** DNS names and IP addresses of a server; a certificate without them is a client's. */
  hosts?: readonly string[];
}

const apiHosts = [
  "localhost",
  "127.0.0.1",
  ...Object.values(familyAddresses).flatMap(({ controlPlane, apiService }) => [controlPlane, apiService]),
  "kubernetes",
  "kubernetes.default",
  "kubernetes.default.svc",
  "kubernetes.default.svc.cluster.local",
];

/** The certificates of https://kubernetes.io/docs/setup/best-practices/certificates/, made where they are missing. */
export async function ensurePki(dir: string, nodes: readonly NodeIdentity[]): Promise<void> {
  await issue(dir, "ca", [
    { file: "apiserver", commonName: "kube-apiserver", hosts: apiHosts },
    { file: "apiserver-kubelet-client", commonName: "kube-apiserver-kubelet-client", organisation: "system:masters" },
    { file: "admin", commonName: "kubernetes-admin", organisation: "system:masters" },
    { file: "kube-controller-manager", commonName: "system:kube-controller-manager" },
    { file: "kube-scheduler", commonName: "system:kube-scheduler" },
    { file: "kube-proxy", commonName: "system:kube-proxy" },
    { file: localPathUser, commonName: localPathUser },
    { file: "coredns", commonName: "coredns" },
    ...nodes.map(multusCertificate),
    ...nodes.map((node) => ({
      file: `kubelet-${node.name}`,
      commonName: `system:node:${node.name}`,
      organisation: "system:nodes",
      hosts: [node.name, ...Object.values(node.addresses)],
    })),
  ]);
  // Whoever has a certificate of these may talk to etcd, or claim to be any user: authorities of their own.
  await issue(dir, "etcd-ca", [
    { file: "etcd", commonName: "etcd", hosts: ["localhost", "127.0.0.1"] },
    { file: "apiserver-etcd-client", commonName: "kube-apiserver-etcd-client" },
  ]);
  await issue(dir, "front-proxy-ca", [{ file: "front-proxy-client", commonName: "front-proxy-client" }]);
  await ensureServiceAccountKey(join(dir, "service-account.key"));
}

async function issue(dir: string, authorityFile: string, leaves: readonly Leaf[]): Promise<void> {
  const missing = leaves.filter((leaf) => !existsSync(join(dir, `${leaf.file}.crt`)));
  if (missing.length === 0) return;
  const authority = await ensureAuthority(dir, authorityFile);
  for (const leaf of missing) await issueLeaf(dir, authority, leaf);
}

async function ensureAuthority(dir: string, file: string): Promise<Authority> {
  const keys = await ensureKey(join(dir, `${file}.key`));
  const certificateFile = join(dir, `${file}.crt`);
  if (existsSync(certificateFile)) {
    return { keys, certificate: new X509Certificate(await readFile(certificateFile, "utf8")) };
  }
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [`typevisor-dev-${file}`] }],
    keys,
    signingAlgorithm: algorithm,
    ...validity(),
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign | KeyUsageFlags.digitalSignature, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await writeAtomic(certificateFile, certificate.toString("pem"));
  return { keys, certificate };
}

async function issueLeaf(dir: string, authority: Authority, leaf: Leaf): Promise<void> {
  const keys = await ensureKey(join(dir, `${leaf.file}.key`));
  const usages = [ExtendedKeyUsage.clientAuth, ...(leaf.hosts ? [ExtendedKeyUsage.serverAuth] : [])];
  const certificate = await X509CertificateGenerator.create({
    subject: [...(leaf.organisation ? [{ O: [leaf.organisation] }] : []), { CN: [leaf.commonName] }],
    issuer: authority.certificate.subject,
    publicKey: keys.publicKey,
    signingKey: authority.keys.privateKey,
    signingAlgorithm: algorithm,
    ...validity(),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension(usages),
      await AuthorityKeyIdentifierExtension.create(authority.keys.publicKey),
      ...(leaf.hosts ? [subjectNames(leaf.hosts)] : []),
    ],
  });
  await writeAtomic(join(dir, `${leaf.file}.crt`), certificate.toString("pem"));
}

function subjectNames(hosts: readonly string[]): SubjectAlternativeNameExtension {
  return new SubjectAlternativeNameExtension(
    hosts.map((value) => ({ type: isIP(value) !== 0 ? ("ip" as const) : ("dns" as const), value })),
  );
}

/** From an hour ago, for clocks of node VMs that lag, for ten years. */
function validity(): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - 3600 * 1000), notAfter: new Date(now + 10 * yearMs) };
}

async function ensureKey(file: string): Promise<webcrypto.CryptoKeyPair> {
  if (existsSync(file)) return importKey(await readFile(file, "utf8"));
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  await writeAtomic(file, pem("PRIVATE KEY", der));
  return keys;
}

/** The API server reads its public half from it, and knows private keys of elliptic curves only in the form of SEC 1. */
async function ensureServiceAccountKey(file: string): Promise<void> {
  if (existsSync(file)) return;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeAtomic(file, privateKey.export({ type: "sec1", format: "pem" }).toString());
}

async function importKey(text: string): Promise<webcrypto.CryptoKeyPair> {
  const der = Buffer.from(text.replace(/-----[^-]+-----|\s/g, ""), "base64");
  const privateKey = await crypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
  const { d: _private, key_ops: _uses, ...publicPart } = await crypto.subtle.exportKey("jwk", privateKey);
  const publicKey = await crypto.subtle.importKey("jwk", publicPart, algorithm, true, ["verify"]);
  return { privateKey, publicKey };
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
