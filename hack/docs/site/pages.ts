/** Which files of the repository are pages of the site, where they are there, and in what order a reader finds them. */
import { dirname } from "node:path";
import { markdownFiles, titleOf } from "../markdown.ts";

/** Where files are that are no pages. */
export const REPOSITORY_URL = "https://github.com/typevisor/typevisor";

/** Pages outside of docs/, whose folders say nothing to a reader. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  "hack/docs/site/index.md": "index.md",
  "charts/typevisor/README.md": "chart.md",
  "hack/dev-cluster/README.md": "dev-cluster.md",
  "CONTRIBUTING.md": "contributing.md",
  "CHANGELOG.md": "changelog.md",
};

/** Where a file of the repository is on the site, e.g. adr/0001-one-event-loop.md; undefined where it is no page. */
export function sitePathOf(file: string): string | undefined {
  if (file.startsWith("docs/") && file.endsWith(".md")) return file.slice("docs/".length);
  return ELSEWHERE[file];
}

/** All pages, as files of the repository. */
export function allPages(): string[] {
  return markdownFiles().filter((file) => sitePathOf(file) !== undefined);
}

/** Pages of a folder, in the order of their names. */
function pagesIn(folder: string): string[] {
  return allPages()
    .filter((file) => dirname(file) === folder)
    .sort();
}

/** The page that a link to a folder leads to: its first one. */
export function firstPageIn(folder: string): string | undefined {
  return pagesIn(folder)[0];
}

/** A page under its own title, or under a shorter one. */
type Entry = string | readonly [text: string, file: string];

interface Section {
  readonly text: string;
  readonly pages: readonly Entry[];
  /** Folded until a reader opens it, or is there. */
  readonly collapsed?: true;
}

const sections: readonly Section[] = [
  {
    text: "Start",
    pages: [
      ["Overview", "hack/docs/site/index.md"],
      ["Quickstart", "docs/quickstart.md"],
      ["Concepts", "docs/concepts.md"],
      ["Compared with KubeVirt", "docs/comparison.md"],
    ],
  },
  {
    text: "Tasks",
    pages: [
      ["Boot an image", "docs/boot-an-image.md"],
      ["Keep a disk", "docs/keep-a-disk.md"],
      ["Import a disk", "docs/import.md"],
      ["Expose a Service", "docs/expose-a-service.md"],
      ["Migrate a machine", "docs/migration.md"],
      ["Drain a node", "docs/drain.md"],
      ["Back up and restore", "docs/back-up.md"],
      ["Manage by GitOps", "docs/gitops.md"],
    ],
  },
  {
    text: "Operations",
    pages: [
      ["Install: the chart", "charts/typevisor/README.md"],
      ["Upgrade and roll back", "docs/upgrade.md"],
      ["Uninstall", "docs/uninstall.md"],
      ["Troubleshooting", "docs/troubleshooting.md"],
      ["Observability", "docs/observability.md"],
      ["Who may do what", "docs/access.md"],
      ["Security model", "docs/security.md"],
      ["Versioning policy", "docs/versioning.md"],
    ],
  },
  {
    text: "Features",
    pages: [
      ["Disks", "docs/disks.md"],
      ["Disks of running machines", "docs/hot-plug.md"],
      ["Networking", "docs/networking.md"],
      ["How networks are wired", "docs/networking-wiring.md"],
      ["Firmware", "docs/firmware.md"],
      ["vsock", "docs/vsock.md"],
    ],
  },
  {
    text: "Reference",
    pages: [
      ["API", "docs/api.md"],
      ["Chart values", "docs/chart-values.md"],
      ["kubectl vm", "docs/kubectl-vm.md"],
      ["Metrics", "docs/metrics.md"],
      ["Benchmarks", "docs/benchmarks.md"],
      ["Changelog", "CHANGELOG.md"],
    ],
  },
  { text: "Runbooks", pages: pagesIn("docs/runbooks"), collapsed: true },
  {
    text: "Design",
    pages: [
      ["Architecture", "docs/architecture.md"],
      ["Contributing", "CONTRIBUTING.md"],
      ["Development cluster", "hack/dev-cluster/README.md"],
    ],
  },
  { text: "Decisions", pages: pagesIn("docs/adr"), collapsed: true },
];

/** As VitePress has it. */
export interface SidebarSection {
  readonly text: string;
  readonly collapsed?: boolean;
  readonly items: readonly { readonly text: string; readonly link: string }[];
}

/** The sidebar of every page. */
export function sidebar(): SidebarSection[] {
  return sections.map(({ text, pages, collapsed }) => ({
    text,
    ...(collapsed === undefined ? {} : { collapsed }),
    items: pages.map((entry) => {
      const [title, file] = typeof entry === "string" ? [titleOf(entry), entry] : entry;
      return { text: title, link: linkTo(file) };
    }),
  }));
}

/** The link to a page from any other, which VitePress makes one to HTML. */
export function linkTo(file: string): string {
  const path = sitePathOf(file);
  if (path === undefined) throw new Error(`${file} is no page of the site`);
  return path === "index.md" ? "/" : `/${path}`;
}
