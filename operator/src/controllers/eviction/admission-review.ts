/** One request to evict a pod, as the API server tells of it (policy/v1 Eviction in admission.k8s.io/v1 AdmissionReview). */
export interface EvictionRequest {
  /** Of the request, not of the pod. */
  readonly uid: string;
  readonly namespace: string;
  readonly podName: string;
  /** Nothing may come of it: asked for in the URL, or in the eviction's own deleteOptions, as `kubectl drain` does. */
  readonly isDryRun: boolean;
}

/** What is answered: `message` ends what the API server tells the client; `warnings` reach it beside its success. */
export type EvictionAnswer =
  | { readonly allowed: true; readonly warnings?: readonly string[] }
  | { readonly allowed: false; readonly message: string };

/** Clients such as `kubectl drain` try again on this, and on nothing else. */
const TOO_MANY_REQUESTS = 429;
/** RFC 1123 subdomain, as names of pods and namespaces are. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const UID_MAX_LENGTH = 128;

/** Undefined where the bytes are no request to evict a pod. */
export function parseReview(body: string): EvictionRequest | undefined {
  let review: unknown;
  try {
    review = JSON.parse(body);
  } catch {
    return undefined;
  }
  const { apiVersion, kind, request } = membersOf(review);
  if (apiVersion !== "admission.k8s.io/v1" || kind !== "AdmissionReview") return undefined;
  const { uid, namespace, name, subResource, operation, dryRun, resource, object } = membersOf(request);
  const isEviction = membersOf(resource)["resource"] === "pods" && subResource === "eviction" && operation === "CREATE";
  if (!isEviction || typeof uid !== "string" || uid === "" || uid.length > UID_MAX_LENGTH) return undefined;
  if (!isName(namespace) || !isName(name)) return undefined;
  const inOptions = membersOf(membersOf(object)["deleteOptions"])["dryRun"];
  const isDryRun = dryRun === true || (Array.isArray(inOptions) && inOptions.length > 0);
  return { uid, namespace, podName: name, isDryRun };
}

/** The AdmissionReview that answers. */
export function reviewOf(uid: string, answer: EvictionAnswer): object {
  const verdict = answer.allowed
    ? { allowed: true, ...(answer.warnings === undefined ? {} : { warnings: answer.warnings }) }
    : {
        allowed: false,
        status: { status: "Failure", reason: "TooManyRequests", code: TOO_MANY_REQUESTS, message: answer.message },
      };
  return { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response: { uid, ...verdict } };
}

function isName(value: unknown): value is string {
  return typeof value === "string" && NAME.test(value);
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
