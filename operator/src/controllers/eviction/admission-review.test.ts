import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { parseReview, reviewOf } from "./admission-review.ts";

/** As an API server of Kubernetes 1.37 sends it, less what is not looked at. */
const review = (request: object = {}, outer: object = {}) =>
  JSON.stringify({
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request: {
      uid: "705ab4f5-6393-11e8-b7cc-42010a800002",
      kind: { group: "policy", version: "v1", kind: "Eviction" },
      resource: { group: "", version: "v1", resource: "pods" },
      subResource: "eviction",
      name: "vm-web",
      namespace: "shop",
      operation: "CREATE",
      userInfo: { username: "admin" },
      object: { kind: "Eviction", apiVersion: "policy/v1", metadata: { name: "vm-web", namespace: "shop" } },
      oldObject: null,
      dryRun: false,
      ...request,
    },
    ...outer,
  });

describe("a review of an eviction", () => {
  it("names the pod", () => {
    expect(parseReview(review())).toEqual({
      uid: "705ab4f5-6393-11e8-b7cc-42010a800002",
      namespace: "shop",
      podName: "vm-web",
      isDryRun: false,
    });
  });

  it("is a dry run by its URL, and by the options in the eviction, as kubectl drain --dry-run=server asks", () => {
    expect(parseReview(review({ dryRun: true }))?.isDryRun).toBe(true);
    expect(parseReview(review({ object: { deleteOptions: { dryRun: ["All"] } } }))?.isDryRun).toBe(true);
    expect(parseReview(review({ object: { deleteOptions: { dryRun: [] } } }))?.isDryRun).toBe(false);
  });

  it.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["a list", "[]"],
    ["of another version", review({}, { apiVersion: "admission.k8s.io/v1beta1" })],
    ["without a request", review({}, { request: null })],
    ["of a pod itself", review({ subResource: undefined })],
    ["of another resource", review({ resource: { resource: "nodes" } })],
    ["of a deletion", review({ operation: "DELETE" })],
    ["without a UID", review({ uid: "" })],
    ["with a UID that is too long", review({ uid: "x".repeat(129) })],
    ["of a pod whose name leads elsewhere", review({ name: "../secrets" })],
    ["of a namespace whose name does", review({ namespace: "shop/pods" })],
    ["without a name", review({ name: undefined })],
  ])("is none where it is %s", (_, body) => {
    expect(parseReview(body)).toBeUndefined();
  });

  it("is read from any bytes without a throw", () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (body) => void parseReview(body)));
    const odd = fc.dictionary(fc.constantFrom("uid", "name", "object", "resource", "dryRun"), fc.jsonValue());
    fc.assert(fc.property(odd, (request) => void parseReview(review(request))));
  });
});

describe("the answer", () => {
  it("lets pass, with a warning where there is one", () => {
    expect(reviewOf("1", { allowed: true })).toMatchObject({ response: { uid: "1", allowed: true } });
    expect(reviewOf("1", { allowed: true, warnings: ["w"] })).toMatchObject({ response: { warnings: ["w"] } });
  });

  it("refuses with 429, on which clients try again", () => {
    expect(reviewOf("1", { allowed: false, message: "not now" })).toEqual({
      apiVersion: "admission.k8s.io/v1",
      kind: "AdmissionReview",
      response: {
        uid: "1",
        allowed: false,
        status: { status: "Failure", reason: "TooManyRequests", code: 429, message: "not now" },
      },
    });
  });
});
