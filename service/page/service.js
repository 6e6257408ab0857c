// Requests to the service that this page comes from. Every fault is an Error whose message is for people.

const KEY = "tagmask-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

export class Fault extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Fault(0, "The service does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Fault(answer.status, told.detail ?? `The service answered ${answer.status}.`);
}

export async function models() {
  return (await (await ask("v1/models")).json()).models;
}

export async function activate(version) {
  await ask(`v1/models/${encodeURIComponent(version)}/activate`, { method: "POST" });
}

// The answer in `format` for `order` = { photo: Blob, name, tags: [...], refine: "none" | "crf" }.
export async function segment(order, format, signal) {
  const form = new FormData();
  form.append("image", order.photo, order.name);
  order.tags.forEach((tag) => form.append("tags", tag));
  form.append("refine", order.refine);
  form.append("format", format);
  return ask("v1/segment", { method: "POST", body: form, signal });
}

// The same request as a command for a shell.
export function command(order, format, file) {
  const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const parts = ["curl"];
  if (key.get()) parts.push("-H", '"Authorization: Bearer $TAGMASK_KEY"');
  parts.push("-F", quote(`image=@${order.name}`));
  order.tags.forEach((tag) => parts.push("-F", quote(`tags=${tag}`)));
  if (order.refine !== "none") parts.push("-F", `refine=${order.refine}`);
  if (format !== "png") parts.push("-F", `format=${format}`);
  parts.push(new URL("v1/segment", document.baseURI).href, "-o", quote(file));
  return parts.join(" ");
}
