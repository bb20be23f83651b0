import { join } from "node:path";
import { defineConfig, type UserConfig } from "vitepress";
import { anchorOf, repository } from "../../markdown.ts";
import { deadLinks } from "../dead-links.ts";
import { repositoryLinks } from "../links.ts";
import { REPOSITORY_URL, sidebar, sitePathOf } from "../pages.ts";

/** Pages are outside of the folder that has Vue: what renders them finds it from its own place, which is in it. */
const vueOfRenderer: NonNullable<UserConfig["vite"]>["plugins"] = [
  {
    name: "vue-of-renderer",
    enforce: "pre",
    resolveId: (id, _importer, { ssr }) => (ssr && /^vue(\/|$)/.test(id) ? { id, external: true } : undefined),
  },
];

/** Pages of tables with long names, which have no room for an outline beside them. */
const WIDE: ReadonlySet<string> = new Set(["metrics.md"]);

export default defineConfig({
  title: "Typevisor",
  description: "Virtual machines beside containers on Kubernetes",
  lang: "en",
  srcDir: repository,
  // On GitHub the README is the first page; here it is index.md.
  srcExclude: ["README.md"],
  rewrites: (file) => sitePathOf(file) ?? file,
  outDir: join(repository, "dist/site"),
  cacheDir: join(import.meta.dirname, "../node_modules/.cache"),
  vite: { plugins: vueOfRenderer },
  transformPageData: ({ relativePath, frontmatter }) =>
    WIDE.has(relativePath) ? { frontmatter: { ...frontmatter, pageClass: "wide", aside: false } } : undefined,
  // VitePress itself looks for pages that are not there, and not for anchors.
  buildEnd: ({ outDir, site }) => {
    const dead = deadLinks(outDir, site.base);
    if (dead.length > 0) throw new Error(`links that lead nowhere:\n${dead.join("\n")}`);
  },
  markdown: {
    config: repositoryLinks,
    anchor: { slugify: anchorOf },
  },
  themeConfig: {
    nav: [
      { text: "Quickstart", link: "/quickstart" },
      { text: "API", link: "/api" },
      { text: "Changelog", link: "/changelog" },
      { text: "Repository", link: REPOSITORY_URL },
    ],
    sidebar: sidebar(),
    outline: { level: [2, 3] },
    search: { provider: "local" },
    editLink: { pattern: `${REPOSITORY_URL}/edit/main/:path`, text: "The source of this page" },
    docFooter: { prev: false, next: false },
  },
});
