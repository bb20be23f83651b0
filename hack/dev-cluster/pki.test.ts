import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { nodeIdentity } from "./layout.ts";
import { ensurePki } from "./pki.ts";

let dir: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "pki-test-"));
  await ensurePki(dir, [nodeIdentity(1)]);
});
afterAll(() => rmSync(dir, { recursive: true }));

const certificate = (name: string) => new X509Certificate(readFileSync(join(dir, `${name}.crt`)));
const signedBy = (name: string, authority: string) => certificate(name).verify(certificate(authority).publicKey);

describe("the certificates of a cluster", () => {
  it.each([
    ["apiserver", "ca"],
    ["admin", "ca"],
    ["kubelet-node1", "ca"],
    ["etcd", "etcd-ca"],
    ["apiserver-etcd-client", "etcd-ca"],
    ["front-proxy-client", "front-proxy-ca"],
  ])("have %s signed by %s and by no other authority", (name, authority) => {
    for (const candidate of ["ca", "etcd-ca", "front-proxy-ca"]) {
      expect(signedBy(name, candidate)).toBe(candidate === authority);
    }
  });

  it("say to whom Node authorisation and RBAC give their rights", () => {
    expect(certificate("kubelet-node1").subject).toBe("O=system:nodes\nCN=system:node:node1");
    expect(certificate("admin").subject).toBe("O=system:masters\nCN=kubernetes-admin");
    expect(certificate("kube-scheduler").subject).toBe("CN=system:kube-scheduler");
  });

  it("name every address under which the API server and a kubelet are reached", () => {
    const server = certificate("apiserver");
    for (const address of ["127.0.0.1", "172.30.0.1", "10.96.0.1", "fd00:30::1", "fd00:10:96::1"])
      expect(server.checkIP(address)).toBe(address);
    expect(server.checkHost("kubernetes.default.svc")).toBe("kubernetes.default.svc");
    for (const address of ["172.30.0.11", "fd00:30::11"])
      expect(certificate("kubelet-node1").checkIP(address)).toBe(address);
    expect(certificate("admin").subjectAltName).toBeUndefined();
  });

  it("keep their private keys from others", () => {
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).mode & 0o077).toBe(0);
  });

  it("stay when asked for again, and grow by what is missing", async () => {
    const before = readFileSync(join(dir, "kubelet-node1.crt"), "utf8");
    await ensurePki(dir, [nodeIdentity(1), nodeIdentity(2)]);
    expect(readFileSync(join(dir, "kubelet-node1.crt"), "utf8")).toBe(before);
    expect(signedBy("kubelet-node2", "ca")).toBe(true);
  });
});
