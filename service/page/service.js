// Requests to the service of this page. Every failure is a ServiceError, whose message is shown to the user.

const KEY = "tagmask-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not respond. Is it still running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ServiceError(response.status, problem.detail ?? `The service responded with status ${response.status}.`);
}

export async function models() {
  return (await (await request("v1/models")).json()).models;
}

export async function activate(version) {
  await request(`v1/models/${encodeURIComponent(version)}/activate`, { method: "POST" });
}

// The response in `format` for `job` = { photo: Blob, name, tags: [...], refine: "smooth" | "crf" }.
export async function segment(job, format, signal) {
  const form = new FormData();
  form.append("image", job.photo, job.name);
  job.tags.forEach((tag) => form.append("tags", tag));
  form.append("refine", job.refine);
  form.append("format", format);
  return request("v1/segment", { method: "POST", body: form, signal });
}

// Whether the service accepts photos to learn from.
export async function acceptsSamples() {
  try {
    return (await (await request("readyz")).json()).samples;
  } catch {
    return false; // no model is served yet
  }
}

// Sends the photo of `job`, its tags and a correction, { png: Blob, names, complete: [...] }; returns the sample.
export async function addSample(job, correction) {
  const form = new FormData();
  form.append("image", job.photo, job.name);
  form.append("tags", job.tags.join(","));
  form.append("correction", correction.png, "correction.png");
  form.append("classes", correction.names.join(","));
  form.append("complete", correction.complete.join(","));
  return (await request("v1/samples", { method: "POST", body: form })).json();
}

// The same request as a shell command.
export function command(job, format, file) {
  const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const parts = ["curl"];
  if (key.get()) parts.push("-H", '"Authorization: Bearer $TAGMASK_KEY"');
  parts.push("-F", quote(`image=@${job.name}`));
  job.tags.forEach((tag) => parts.push("--form-string", quote(`tags=${tag}`)));
  if (job.refine !== "smooth") parts.push("-F", `refine=${job.refine}`);
  if (format !== "png") parts.push("-F", `format=${format}`);
  parts.push(new URL("v1/segment", document.baseURI).href, "-o", quote(file));
  return parts.join(" ");
}
