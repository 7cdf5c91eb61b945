/*
 * Reading and encoding manifests. The format, and what damage is told from an
 * unfinished append by, stand in manifest.h.
 */
#include "engine/tree/manifest.h"

#include <assert.h>

#include "engine/util/hash.h"

#define MANIFEST_MAGIC "STRATMAN"
#define MANIFEST_REREADS 100 /* more changes than that are no race */
/* What an unfinished edit of a real store, whatever its keys, hardly costs. */
#define MANIFEST_SEEK_FREE ((uint64_t)1 << 30)

static uint64_t manifest_align(uint64_t size) {
  return (size + 7) & ~UINT64_C(7);
}

/* ---- Encoding ------------------------------------------------------------ */

void skv_manifest_edit(const uint8_t store_id[16], skv_slice edit, skv_buf *out,
                       skv_manifest_end *end) {
  assert(edit.size > 0 && edit.size <= UINT32_MAX);
  size_t total = (size_t)manifest_align(SKV_EDIT_HEADER + edit.size);
  uint8_t *p = skv_buf_reserve(out, total);
  if (p == NULL) return;
  uint64_t file = skv_head_file(end->pos);
  uint64_t offset = skv_head_offset(end->pos);
  memset(p, 0, total);
  skv_put32(p + 8, (uint32_t)edit.size);
  skv_put64(p + 16, end->chain);
  memcpy(p + SKV_EDIT_HEADER, edit.data, edit.size);
  end->chain = skv_checksum(p + 8, SKV_EDIT_HEADER - 8 + edit.size,
                            skv_seed(store_id, file, offset));
  skv_put64(p, end->chain);
  out->size += total;
  end->pos = skv_head_at(file, offset + total);
}

void skv_manifest_encode(const uint8_t store_id[16], uint64_t file,
                         skv_slice edit, skv_buf *out, skv_manifest_end *end) {
  uint8_t header[SKV_MANIFEST_HEADER] = {0};
  memcpy(header, MANIFEST_MAGIC, 8);
  skv_put32(header + 8, SKV_FORMAT);
  memcpy(header + 16, store_id, 16);
  skv_put64(header + 32, file);
  skv_put64(header + 56, skv_checksum(header, 56, 0));
  skv_buf_append(out, header, sizeof header);
  end->pos = skv_head_at(file, SKV_MANIFEST_HEADER);
  end->chain = 0;
  skv_manifest_edit(store_id, edit, out, end);
}

/* ---- Piece by piece ------------------------------------------------------ */

int skv_manifest_header(const uint8_t *bytes, size_t size, const char *name,
                        skv_err *err, uint8_t store_id[16], uint64_t *file) {
  if (size < SKV_MANIFEST_HEADER) {
    return skv_error_corrupt(err, name, size, "header missing");
  }
  if (memcmp(bytes, MANIFEST_MAGIC, 8) != 0) {
    return skv_error_corrupt(err, name, 0, "magic missing");
  }
  if (!skv_checksum_ok(bytes, 56, 0, skv_get64(bytes + 56))) { /* INV-8 */
    return skv_error_corrupt(err, name, 0, "checksum mismatch");
  }
  if (skv_get32(bytes + 8) != SKV_FORMAT) {
    return SKV_ERROR(err, STRATAKV_NOTADB, "%s has the unknown format %u", name,
                     (unsigned)skv_get32(bytes + 8));
  }
  memcpy(store_id, bytes + 16, 16);
  *file = skv_get64(bytes + 32);
  return STRATAKV_OK;
}

/* Whether p, with so many bytes left, has a header that can be an edit's. */
static bool manifest_is_plausible(const uint8_t *p, uint64_t left) {
  if (left < SKV_EDIT_HEADER) return false;
  uint32_t size = skv_get32(p + 8);
  return size != 0 && size <= left - SKV_EDIT_HEADER && skv_get32(p + 12) == 0;
}

/* Bytes that are summed to try it: a length that 32 bits may not hold. */
static uint64_t manifest_cost(const uint8_t *p) {
  return SKV_EDIT_HEADER + (uint64_t)skv_get32(p + 8);
}

/* Whether p, with so many bytes left, begins a valid edit; INV-8. */
static bool manifest_valid(const uint8_t *p, uint64_t left,
                           const uint8_t store_id[16], uint64_t file,
                           uint64_t offset, skv_slice *payload) {
  if (!manifest_is_plausible(p, left)) return false;
  uint32_t size = skv_get32(p + 8);
  *payload = skv_slice_of(p + SKV_EDIT_HEADER, size);
  return skv_checksum_ok(p + 8, SKV_EDIT_HEADER - 8 + (size_t)size,
                         skv_seed(store_id, file, offset), skv_get64(p));
}

bool skv_manifest_edit_at(const uint8_t *bytes, size_t size,
                          const uint8_t store_id[16], uint64_t file,
                          uint64_t offset, skv_edit_info *out) {
  if (offset >= size || !manifest_valid(bytes + offset, size - offset, store_id,
                                        file, offset, &out->payload))
    return false;
  const uint8_t *p = bytes + offset;
  out->offset = offset;
  out->end = offset + manifest_align(SKV_EDIT_HEADER + out->payload.size);
  out->checksum = skv_get64(p);
  out->prev = skv_get64(p + 16);
  out->is_padded = out->end <= size;
  for (uint64_t at = offset + SKV_EDIT_HEADER + out->payload.size;
       at < out->end && out->is_padded; at++)
    out->is_padded = bytes[at] == 0;
  return true;
}

int skv_manifest_seek(const uint8_t *bytes, size_t size,
                      const uint8_t store_id[16], uint64_t file, skv_seek *seek,
                      skv_err *err, uint64_t *offset, skv_edit_info *out,
                      bool *found) {
  int rc = STRATAKV_OK;
  *found = false;
  for (; rc == STRATAKV_OK && *offset < size; *offset += 8) {
    const uint8_t *p = bytes + *offset;
    *found = manifest_is_plausible(p, size - *offset) &&
             skv_seek_try(seek, *offset, manifest_cost(p)) &&
             skv_manifest_edit_at(bytes, size, store_id, file, *offset, out);
    if (*found) break;
    rc = skv_seek_step(seek, 8, err);
  }
  return rc;
}

void skv_manifest_pad(skv_buf *bytes, uint64_t start, uint64_t end,
                      const uint8_t store_id[16], uint64_t file) {
  uint64_t at = start ? start : SKV_MANIFEST_HEADER;
  skv_slice payload;
  size_t had = bytes->size;
  uint8_t *more =
      had < end - start ? skv_buf_reserve(bytes, end - start - had) : NULL;
  if (more) {
    memset(more, 0, (size_t)(end - start - had));
    bytes->size = (size_t)(end - start);
  }
  while (bytes->rc == STRATAKV_OK && at < end &&
         manifest_valid(bytes->data + (at - start), end - at, store_id, file,
                        at, &payload)) {
    uint64_t next = at + manifest_align(SKV_EDIT_HEADER + payload.size);
    uint64_t used = at + SKV_EDIT_HEADER + payload.size;
    memset(bytes->data + (used - start), 0, (size_t)(next - used));
    at = next;
  }
}

/* ---- Reading ------------------------------------------------------------- */

typedef struct manifest_reader {
  skv_tree *tree;
  const uint8_t *store_id;
  uint64_t file;
  uint64_t start;       /* file offset of bytes[0] */
  skv_buf bytes;        /* the file from there to its end */
  uint64_t must;        /* edits below this file offset must be valid */
  skv_manifest_end end; /* behind the last edit applied */
  skv_version *version; /* with that edit, a reference */
  char name[SKV_NAME_SIZE];
  bool is_clipped; /* nothing behind `must` is read */
} manifest_reader;

static uint64_t manifest_limit(const manifest_reader *r) {
  return r->start + r->bytes.size;
}

static const uint8_t *manifest_at(const manifest_reader *r, uint64_t offset) {
  return r->bytes.data + (offset - r->start);
}

static int manifest_check_header(const manifest_reader *r, skv_err *err) {
  uint8_t store_id[16];
  uint64_t file;
  int rc = skv_manifest_header(r->bytes.data, r->bytes.size, r->name, err,
                               store_id, &file);
  if (rc != STRATAKV_OK) return rc;
  if (memcmp(store_id, r->store_id, 16) != 0 || file != r->file) {
    return skv_error_corrupt(err, r->name, 16, "another file's header");
  }
  return STRATAKV_OK;
}

/* Whether a valid edit begins at `offset`. */
static bool manifest_is_edit(const manifest_reader *r, uint64_t offset,
                             skv_slice *payload) {
  if (offset >= manifest_limit(r)) return false;
  return manifest_valid(manifest_at(r, offset), manifest_limit(r) - offset,
                        r->store_id, r->file, offset, payload);
}

/* Apply the valid edit at the end; what does not fit is this file's damage. */
static int manifest_take(manifest_reader *r, skv_slice payload, skv_err *err) {
  uint64_t offset = skv_head_offset(r->end.pos);
  const uint8_t *p = manifest_at(r, offset);
  if (skv_get64(p + 16) != r->end.chain) {
    return skv_error_corrupt(err, r->name, offset, "edit of another chain");
  }
  skv_err inner;
  skv_version *next;
  uint64_t behind = offset + manifest_align(SKV_EDIT_HEADER + payload.size);
  skv_head_pos pos = skv_head_at(r->file, behind);
  int rc = skv_version_apply(r->tree, r->version, payload, pos, false, &inner,
                             &next);
  if (rc == STRATAKV_CORRUPT) {
    return skv_error_corrupt(err, r->name, offset, inner.message);
  }
  if (rc != STRATAKV_OK) {
    return SKV_ERROR(err, rc, "%s: %s", r->name, inner.message);
  }
  skv_version_unref(r->version);
  r->version = next;
  r->end.pos = pos;
  r->end.chain = skv_get64(p);
  return STRATAKV_OK;
}

static int manifest_take_all(manifest_reader *r, skv_err *err) {
  skv_slice payload;
  while (manifest_is_edit(r, skv_head_offset(r->end.pos), &payload)) {
    int rc = manifest_take(r, payload, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}

/* What is wrong with the bytes behind the last valid edit; NULL: nothing, they
 * are at most an edit that was not finished. */
static const char *manifest_later(const manifest_reader *r) {
  uint64_t offset = skv_head_offset(r->end.pos);
  skv_seek seek = skv_seek_new((skv_pause){0});
  skv_slice payload;
  seek.free = MANIFEST_SEEK_FREE;
  for (; offset < manifest_limit(r); offset += 8) {
    const uint8_t *p = manifest_at(r, offset);
    if (manifest_is_plausible(p, manifest_limit(r) - offset) &&
        skv_seek_try(&seek, offset, manifest_cost(p)) &&
        manifest_is_edit(r, offset, &payload))
      return "invalid edit before a valid one";
  }
  return seek.untried == 0 ? NULL
                           : "invalid edit, and behind it too many places that "
                             "look like one to try them all";
}

/* Following: what lies behind the published position is not looked at. */
static void manifest_clip(manifest_reader *r) {
  if (!r->is_clipped) return;
  size_t size = r->must > r->start ? (size_t)(r->must - r->start) : 0;
  if (r->bytes.size > size) r->bytes.size = size;
}

/* Read the file once more: *changed says whether it holds other bytes now. */
static int manifest_reread(manifest_reader *r, skv_err *err, bool *changed) {
  skv_buf bytes = {0};
  int rc = skv_head_read(r->tree->store, r->file, r->start, err, &bytes);
  if (rc != STRATAKV_OK) {
    skv_buf_clear(&bytes);
    return rc;
  }
  *changed = !skv_equal(skv_buf_bytes(&bytes), skv_buf_bytes(&r->bytes)) &&
             bytes.size >= r->bytes.size;
  skv_buf_clear(&r->bytes);
  r->bytes = bytes;
  manifest_clip(r);
  return STRATAKV_OK;
}

/*
 * All valid edits, and whether they may end where they do. A valid edit behind
 * an invalid one is damage, unless the invalid one was being written while we
 * read: then it is different the next time.
 */
static int manifest_read_edits(manifest_reader *r, skv_err *err) {
  for (int i = 0;; i++) {
    int rc = manifest_take_all(r, err);
    if (rc != STRATAKV_OK) return rc;
    uint64_t offset = skv_head_offset(r->end.pos);
    if (offset < r->must) {
      return skv_error_corrupt(err, r->name, offset, "invalid edit");
    }
    const char *what = manifest_later(r);
    if (!what) return STRATAKV_OK;
    bool changed = false;
    rc = manifest_reread(r, err, &changed);
    if (rc != STRATAKV_OK) return rc;
    if (!changed || i == MANIFEST_REREADS) {
      return skv_error_corrupt(err, r->name, offset, what);
    }
  }
}

/* Read the bytes, and start where `from` says. */
static int manifest_begin(manifest_reader *r, const skv_manifest_end *from,
                          const skv_version *base, skv_err *err) {
  if (from != NULL) {
    r->start = skv_head_offset(from->pos);
    r->end = *from;
    r->version = skv_version_ref(base);
    return skv_head_read(r->tree->store, r->file, r->start, err, &r->bytes);
  }
  int rc = skv_head_read(r->tree->store, r->file, 0, err, &r->bytes);
  if (rc == STRATAKV_OK) rc = manifest_check_header(r, err);
  if (rc != STRATAKV_OK) return rc;
  r->end.pos = skv_head_at(r->file, SKV_MANIFEST_HEADER);
  if (r->must <= SKV_MANIFEST_HEADER) r->must = SKV_MANIFEST_HEADER + 1;
  return skv_version_new(r->tree, r->store_id, err, &r->version);
}

static int manifest_run(manifest_reader *r, const skv_manifest_end *from,
                        const skv_version *base, skv_head_pos published,
                        skv_err *err, skv_manifest_end *end,
                        skv_version **out) {
  skv_name name = {.kind = SKV_NAME_MANIFEST, .number = r->file};
  skv_name_format(&name, r->name);
  if (skv_head_file(published) == r->file) r->must = skv_head_offset(published);
  *out = NULL;
  int rc = manifest_begin(r, from, base, err);
  manifest_clip(r);
  if (rc == STRATAKV_OK) rc = manifest_read_edits(r, err);
  if (rc == STRATAKV_OK && r->version != base) {
    rc = skv_version_open(r->tree, r->version, base, err);
  }
  skv_buf_clear(&r->bytes);
  if (rc != STRATAKV_OK) {
    skv_version_unref(r->version);
    return rc;
  }
  *end = r->end;
  *out = r->version;
  return STRATAKV_OK;
}

int skv_manifest_read(skv_tree *tree, const uint8_t store_id[16], uint64_t file,
                      const skv_manifest_end *from, const skv_version *base,
                      skv_head_pos published, skv_err *err,
                      skv_manifest_end *end, skv_version **out) {
  manifest_reader r = {.tree = tree, .store_id = store_id, .file = file};
  return manifest_run(&r, from, base, published, err, end, out);
}

int skv_manifest_follow(skv_tree *tree, const uint8_t store_id[16],
                        uint64_t file, const skv_manifest_end *from,
                        const skv_version *base, skv_head_pos published,
                        skv_err *err, skv_manifest_end *end,
                        skv_version **out) {
  manifest_reader r = {
      .tree = tree, .store_id = store_id, .file = file, .is_clipped = true};
  return manifest_run(&r, from, base, published, err, end, out);
}
