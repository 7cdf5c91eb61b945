/*
 * The manifest: a header and checksummed edits, appended one at a time.
 *
 * FILE  Little-endian.
 *      0  8  magic "STRATMAN"
 *      8  4  format version; an unknown one is NOTADB if the checksum holds
 *     12  4  zero
 *     16 16  store id
 *     32  8  file number
 *     40 16  zero
 *     56  8  checksum of bytes 0..55, seed 0
 *     64     edits; the first makes a whole version out of an empty one
 *
 * EDIT  Starts at a multiple of 8; zero padding behind it.
 *      0  8  checksum of bytes 8..24+size, seeded with store id, file number
 *            and offset
 *      8  4  size: bytes of the payload (>= 1)
 *     12  4  zero
 *     16  8  prev: checksum of the edit before, 0 for the first
 *     24     payload: an edit (engine/tree/version.h)
 *   `prev` stands in the edit and not in its seed, so that an edit can be seen
 *   to be one when the edit before it is damaged.
 *
 * APPENDING  Only behind edits that are synced. Whoever adopts an edit beyond
 *   the published position (P3) syncs the manifest (skv_head_append with no
 *   bytes) before it appends the next.
 *
 * END  The first invalid edit ends the manifest: an append that did not finish.
 *   CORRUPT with file and offset, because it cannot be one:
 *     - an invalid first edit: a manifest is synced before CURRENT names it;
 *     - an invalid edit below the published position;
 *     - an invalid edit with a valid one behind it (at any later multiple of
 *       8): it was complete and synced when that was appended;
 *     - an invalid edit with so many places behind it that look like an edit
 *       that they cannot all be tried (engine/util/seek.h);
 *     - a valid edit whose prev is not the checksum of the one before, or that
 *       does not fit the version.
 *   What is left: after a crash, with the shared page gone, damage to the last
 *   edit cannot be told from a torn append, and that edit is dropped.
 */
#ifndef SKV_TREE_MANIFEST_H
#define SKV_TREE_MANIFEST_H

#include "engine/tree/version.h"
#include "engine/util/seek.h"

#define SKV_MANIFEST_HEADER 64
#define SKV_EDIT_HEADER 24

/* Where a manifest ends and what the next edit chains to. */
typedef struct skv_manifest_end {
  skv_head_pos pos;
  uint64_t chain; /* checksum of the last edit */
} skv_manifest_end;

/* A whole new manifest file with one edit, appended to `out` (sticky). *end is
 * where it ends. */
void skv_manifest_encode(const uint8_t store_id[16], uint64_t file,
                         skv_slice edit, skv_buf *out, skv_manifest_end *end);
/* One more edit, as bytes to append at end->pos, appended to `out` (sticky);
 * *end moves behind it. */
void skv_manifest_edit(const uint8_t store_id[16], skv_slice edit, skv_buf *out,
                       skv_manifest_end *end);

/* ---- Piece by piece, for who looks at damaged ones ---------------------- */

/* The header of a manifest's bytes: NOTADB or CORRUPT naming `name`. */
int skv_manifest_header(const uint8_t *bytes, size_t size, const char *name,
                        skv_err *err, uint8_t store_id[16], uint64_t *file);

typedef struct skv_edit_info {
  uint64_t offset;   /* of the edit, and */
  uint64_t end;      /* of the next one, in the file */
  uint64_t checksum; /* what the next one's prev must be */
  uint64_t prev;
  bool is_padded; /* with zeros up to `end`, which no checksum covers */
  skv_slice payload;
} skv_edit_info;
/* The edit at that offset of a manifest's bytes; false: none that is valid. */
bool skv_manifest_edit_at(const uint8_t *bytes, size_t size,
                          const uint8_t store_id[16], uint64_t file,
                          uint64_t offset, skv_edit_info *out);
/* The first one at *offset or behind it, of all multiples of 8, which *offset
 * is moved to; not *found, *offset at or behind the end: there is none, but
 * perhaps among seek->untried. Fails by the seek's pause only. */
int skv_manifest_seek(const uint8_t *bytes, size_t size,
                      const uint8_t store_id[16], uint64_t file, skv_seek *seek,
                      skv_err *err, uint64_t *offset, skv_edit_info *out,
                      bool *found);

/* ---- Reading ------------------------------------------------------------ */

/* As skv_manifest_read, but only up to `published`, which must be of this file:
 * what lies behind may be an edit in the making, or a dead writer's that only
 * the next writer may believe (P3). */
int skv_manifest_follow(skv_tree *tree, const uint8_t store_id[16],
                        uint64_t file, const skv_manifest_end *from,
                        const skv_version *base, skv_head_pos published,
                        skv_err *err, skv_manifest_end *end, skv_version **out);

/*
 * Read manifest `file` from `from`, where `base` is (NULL: from its beginning,
 * with a new version), and apply all valid edits after it. *out is a new
 * reference (base's own if nothing came), its segments open, shared with those
 * of `base` (may be NULL if `from` is); *end is where the valid edits end.
 * `published`: see END; 0 if not known, ignored if it is of another file.
 * NOTFOUND: the file, or a segment, vanished: look at CURRENT again.
 * NOTADB: a newer format. On failure *end is untouched.
 */
int skv_manifest_read(skv_tree *tree, const uint8_t store_id[16], uint64_t file,
                      const skv_manifest_end *from, const skv_version *base,
                      skv_head_pos published, skv_err *err,
                      skv_manifest_end *end, skv_version **out);

/*
 * Make what is to be written again whole: `bytes` has the file from `start`
 * (0, or where an edit begins), perhaps not up to `end`, where an edit ends.
 * No checksum covers the padding, so a torn append may lack it, or have
 * something else in its place. Sticky as skv_buf.
 */
void skv_manifest_pad(skv_buf *bytes, uint64_t start, uint64_t end,
                      const uint8_t store_id[16], uint64_t file);

#endif
