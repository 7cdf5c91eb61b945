/*
 * Segments: immutable sorted files with one version per key.
 *
 * FILE  Little-endian. Checksums inside do not involve the store id, so that a
 *   backup may link the file. `uid` is a random number of the segment: with a
 *   block's offset it seeds the block's checksum, so that a block from
 *   elsewhere never validates.
 *
 *     data blocks, then index block, filter block, properties block, footer;
 *     every block starts at a multiple of 8.
 *
 * BLOCK on disk
 *      0  8  checksum of bytes 8..16+stored, seeded with uid + file offset
 *      8  4  stored: bytes of the body as they are here
 *     12  4  compression (8 bits: 0 none, 1 lz4, 2 zstd), kind (8 bits: 1
 *            data, 2 index, 3 filter, 4 properties), zero (16 bits)
 *     16     body; if compressed: raw length, 4 bytes, then the compressed
 *            bytes; zero padding up to a multiple of 8 (not in `stored`)
 *   A body that does not shrink by at least 1/8 is stored as it is.
 *
 * DATA BODY
 *      0  4  n: entries (>= 1)
 *      4  2  prefix: bytes that all keys share, stored once
 *      6  2  zero
 *      8  8  base: the smallest LSN in the block
 *     16  8n slots: 4 bytes: the first 4 key bytes after the prefix as a
 *            big-endian number, zero padded; 4 bytes: offset of the entry in
 *            the body. Ascending by key.
 *    then the prefix, then the entries:
 *            kind (1 byte, SKV_KIND_*), varint key length after the prefix,
 *            varint value length, varint LSN - base, key bytes, value bytes
 *   An entry ends where the next in file order begins; sizes are checked
 *   against the body's end. A block is closed before an entry that would make
 *   it larger than block_size; a larger entry has a block of its own, stored
 *   uncompressed from about 1 MiB on so that nothing has to buffer it twice.
 *
 * INDEX BODY  One element per data block: a separator key >= every key of the
 *   block and < every key of the next (the last one: >= the block's greatest),
 *   its file offset and stored size, laid out as parallel arrays for binary
 *   search with few cache misses; the exact bytes stand in seg_index.c.
 *
 * FILTER BODY  Blocked Bloom filter: 64-byte blocks, 8-byte aligned in the
 *   file; a key touches one block. Absent when filter_bits is 0.
 *
 * PROPERTIES and FOOTER (the last 64 bytes) stand in seg_footer.c: magic
 *   "STRATSEG", format version, uid, places of the blocks, checksum. The uid
 *   stands in the manifest too (tree/version.h), and who opens a segment says
 *   which one it must be.
 *
 * INGESTED SEGMENTS  hold LSN 0 in every entry; the manifest gives the LSN of
 *   the commit, and the reader reports that (skv_seg_open's ingest_lsn).
 *
 * CALLERS  tree/ writes through skv_seg_writer and reads through skv_seg_get
 *   and skv_seg_iter. NOT HERE: runs, levels, which segments live (tree/).
 */
#ifndef SKV_SEG_SEG_H
#define SKV_SEG_SEG_H

#include "engine/seg/cache.h"
#include "engine/store/store.h"
#include "engine/util/entry.h"

#define SKV_SEG_BLOCK_SIZE 8192u /* default bytes of a data block's body */

/* ---- Writing ----------------------------------------------------------- */

typedef struct skv_seg_options {
  int compression;     /* STRATAKV_COMPRESSION_* */
  int filter_bits;     /* 0..20 per key; 0: no filter */
  uint32_t block_size; /* 256..65536 */
} skv_seg_options;

/* What the manifest keeps of a segment. Key slices belong to the object that
 * holds the meta. */
typedef struct skv_seg_meta {
  uint64_t uid;     /* as in the footer */
  uint64_t size;    /* bytes of the file */
  uint64_t entries; /* tombstones included */
  uint64_t tombstones;
  uint64_t raw_bytes; /* sum of key and value lengths */
  uint64_t min_lsn;   /* smallest and greatest LSN in it */
  uint64_t max_lsn;
  skv_slice min_key;
  skv_slice max_key;
} skv_seg_meta;

typedef struct skv_seg_writer skv_seg_writer;

/* Start a segment in `out`, which stays the caller's. uid: random. */
int skv_seg_writer_new(skv_out *out, const skv_seg_options *options,
                       uint64_t uid, skv_err *err, skv_seg_writer **writer);
void skv_seg_writer_free(skv_seg_writer *writer); /* NULL allowed */
/* Add an entry; keys strictly ascending. Sticky: after a failure further calls
 * return the same code. */
int skv_seg_writer_add(skv_seg_writer *writer, const skv_entry *entry,
                       skv_err *err);
/* Bytes the file would have about now, and entries so far. */
uint64_t skv_seg_writer_size(const skv_seg_writer *writer);
uint64_t skv_seg_writer_entries(const skv_seg_writer *writer);
/* Finish and sync (at least one entry). meta's keys borrow from the writer. */
int skv_seg_writer_finish(skv_seg_writer *writer, skv_err *err,
                          skv_seg_meta *meta);

/* ---- Reading ----------------------------------------------------------- */

typedef struct skv_seg skv_seg; /* an open segment; immutable, any thread */

/* Open: reads and checks footer, index and filter. `in` is taken over; on
 * failure it stays the caller's, whose snapshot may hold the only way to the
 * file. cache may be NULL (then blocks are decoded into the iterator's own
 * memory). cache_id: unique number of the segment within the cache. uid: the
 * segment's, CORRUPT if the file is another one. ingest_lsn: see above, 0 for
 * an ordinary one. */
int skv_seg_open(skv_in *in, skv_cache *cache, uint64_t cache_id, uint64_t uid,
                 uint64_t ingest_lsn, skv_err *err, skv_seg **out);
void skv_seg_close(skv_seg *seg); /* NULL allowed; drops its cached blocks */
skv_in *skv_seg_in(const skv_seg *seg);         /* the file that it reads */
uint64_t skv_seg_anonymous(const skv_seg *seg); /* bytes of anonymous memory */

/* Whether the filter allows the key (hash = skv_hash(key)); always true
 * without a filter. skv_seg_filter_prefetch starts loading its line. */
bool skv_seg_may_have(const skv_seg *seg, uint64_t hash);
void skv_seg_filter_prefetch(const skv_seg *seg, uint64_t hash);

/*
 * Look a key up (filter included). *found says whether there is an entry
 * (possibly a tombstone); its key is the caller's slice. `pin` keeps the block
 * that the value points into and must be released; start from zeros, may be
 * reused for many reads.
 */
typedef struct skv_seg_pin {
  skv_cache_block *block; /* cache reference, or NULL */
  skv_buf buf;            /* own memory when there is no cache */
} skv_seg_pin;
void skv_seg_pin_release(skv_cache *cache, skv_seg_pin *pin); /* keeps buf */
void skv_seg_pin_clear(skv_cache *cache, skv_seg_pin *pin);
int skv_seg_get(skv_seg *seg, skv_slice key, uint64_t hash, skv_seg_pin *pin,
                skv_err *err, bool *found, skv_entry *entry);

/* Iterate. keys_only: values may be left out (size kept 0). */
int skv_seg_iter_new(skv_seg *seg, bool keys_only, skv_err *err,
                     skv_iter **out);

/* About how many entries and file bytes lie in [start, end); NULL is open. */
void skv_seg_estimate(skv_seg *seg, const skv_slice *start,
                      const skv_slice *end, uint64_t *entries, uint64_t *bytes);

#endif
