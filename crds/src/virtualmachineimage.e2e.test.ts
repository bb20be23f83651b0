import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { virtualMachineImageCrd } from "./generate/virtualmachineimage-crd.ts";

const collection = "/apis/typevisor.io/v1alpha1/namespaces/default/virtualmachineimages";
const url = "https://cloud.example/debian.qcow2";
let server: ApiServer;
let count = 0;

beforeAll(async () => {
  server = await startApiServer();
  const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const created = await server.request("POST", definitions, { body: virtualMachineImageCrd() });
  expect(created).toMatchObject({ status: 201, warnings: [] });
  const served = () => server.request("GET", collection).then(({ status }) => status === 200);
  await waitFor(served, { what: "the API server to serve VirtualMachineImages", timeoutMs: 30_000 });
}, 30 * 60_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function create(source: object) {
  count += 1;
  const body = {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineImage",
    metadata: { name: `image-${count}` },
    spec: { source },
  };
  return await server.request("POST", `${collection}?fieldValidation=Strict`, { body });
}

describe("a VirtualMachineImage", () => {
  it.each<[string, object]>([
    ["a server", { http: { url } }],
    [
      "a server with all that it takes",
      {
        http: {
          url: "http://cloud.example:8080/a/debian.raw.xz?token=x",
          checksum: { sha512: "a".repeat(128) },
          secretRef: { name: "credentials" },
          caConfigMapRef: { name: "authorities" },
        },
      },
    ],
    ["an image", { image: { reference: "registry.example/debian-vm:13", path: "/disk/debian.qcow2" } }],
    ["another claim", { persistentVolumeClaim: { name: "golden" } }],
  ])("is accepted with %s", async (_what, source) => {
    expect(await create(source)).toMatchObject({ status: 201, warnings: [] });
  });

  it.each<[string, object, RegExp]>([
    ["no source", {}, /source needs exactly one of http, image, persistentVolumeClaim/],
    ["two sources", { http: { url }, persistentVolumeClaim: { name: "golden" } }, /source needs exactly one of/],
    ["no URL", { http: { url: "debian" } }, /url must be a URL such as https:/],
    ["a URL of a file", { http: { url: "file:///etc/passwd" } }, /url must be a URL such as https:/],
    ["a password in the URL", { http: { url: "https://me:secret@cloud.example/x" } }, /put them into a Secret/],
    ["a short checksum", { http: { url, checksum: { sha256: "abc" } } }, /sha256/],
    ["a checksum of other letters", { http: { url, checksum: { sha256: "z".repeat(64) } } }, /64 hexadecimal digits/],
    ["an empty checksum", { http: { url, checksum: {} } }, /checksum needs exactly one of sha256, sha512/],
    ["a path out of the image", { image: { reference: "x", path: "/a/../../b" } }, /path must not contain '..'/],
    ["a field that there is not", { http: { url, proxy: "x" } }, /unknown field "spec.source.http.proxy"/],
  ])("is refused with %s, which is named", async (_what, source, message) => {
    const answer = await create(source);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(JSON.stringify(answer.body).replaceAll('\\"', '"')).toMatch(message);
  });
});
