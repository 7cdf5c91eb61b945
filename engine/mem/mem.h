/*
 * MemTable: a private index over bytes that stand elsewhere, the records of
 * one log (shared by all processes) or the batch of one transaction.
 *
 * PURPOSE  Nothing is copied: the index maps keys to positions (file offsets of
 *   entries, 32 bits). Position order is commit order, so a snapshot is a
 *   limit: it sees entries below it. All versions of a key are kept.
 *
 * POINT INDEX  Open addressing over 8-byte slots (32 bits of the hash, 32 of
 *   the position of the key's newest entry), plus a history table from a
 *   position to the same key's entry before it. Built by skv_mem_catch_up.
 *
 * ORDERED INDEX  Immutable sorted arrays of (8 key bytes after the array's
 *   common prefix, position), made when an iterator asks, merged
 *   geometrically, so that n entries cost O(n log n) however they come.
 *
 * Either is built only when it is needed: a log that is only written and
 * flushed never has a point index (engine/DESIGN.md).
 *
 * THREADS  catch_up and iter_new may be called by any thread (each has a mutex
 *   inside); get and the iterators take no lock. Freed by reference count.
 */
#ifndef SKV_MEM_MEM_H
#define SKV_MEM_MEM_H

#include "engine/util/entry.h"
#include "engine/wal/wal.h"

typedef struct skv_mem skv_mem;

/* Index the records of a log. bytes: its mapping, `size` long, at most 4 GiB,
 * which must outlive the MemTable; header: as decoded from it; name: of the
 * file, for messages, copied. */
int skv_mem_new_log(const uint8_t *bytes, uint64_t size,
                    const skv_wal_header *header, const char *name,
                    skv_err *err, skv_mem **out);
/* Index one batch. Its bytes are passed on each call since they may move; those
 * that were indexed must not change (a batch that is cut back to a savepoint
 * needs a MemTable of its own). LSNs are 0 and positions offsets in the batch
 * + SKV_WAL_HEADER + SKV_RECORD_HEADER (so that 0 is never a position). */
int skv_mem_new_batch(skv_err *err, skv_mem **out);
#define SKV_MEM_BATCH_BIAS (64 + 32)

skv_mem *skv_mem_ref(skv_mem *mem);
void skv_mem_unref(skv_mem *mem);            /* NULL allowed */
uint64_t skv_mem_memory(const skv_mem *mem); /* anonymous bytes it holds */

/* For a batch: where its bytes are now (before any call below that reads
 * them; not while another thread reads). Old memory that iterators still read
 * must stay valid until they are closed. */
void skv_mem_batch_bytes(skv_mem *mem, const uint8_t *bytes, uint64_t size);

/*
 * Extend the point index to all decided entries below offset `limit` (a record
 * boundary at or below what is visible, or the appended tail when the caller
 * holds WRITE and the last record is decided). For a batch: biased offset.
 * CORRUPT names file and offset of a record that does not validate; TOOBIG: a
 * batch of more than 4 GiB. Nothing to do costs one atomic load. After failure
 * what was caught up to before can be read, and the call can be repeated.
 */
int skv_mem_catch_up(skv_mem *mem, uint64_t limit, skv_err *err);

/* The newest entry of `key` below `limit` (caught up to it); hash =
 * skv_hash(key). Fails only on doubt (see below). entry points into the log. */
int skv_mem_get(skv_mem *mem, skv_slice key, uint64_t hash, uint64_t limit,
                skv_err *err, bool *found, skv_entry *entry);

/* An iterator over the newest entry below `limit` of every key, tombstones
 * included; holds a reference. Extends the ordered index as needed. */
int skv_mem_iter_new(skv_mem *mem, uint64_t limit, skv_err *err,
                     skv_iter **out);

/* Call each(arg, entry) in log order for all decided entries whose offset is
 * in [from, limit), from being a record boundary. Stops when it returns not
 * STRATAKV_OK and returns that. */
int skv_mem_walk(skv_mem *mem, uint64_t from, uint64_t limit,
                 int (*each)(void *arg, const skv_entry *entry), void *arg,
                 skv_err *err);

/* In a fenced store the pages of unsynced records may be lost: from now on
 * get, iterators and walk verify the checksum of each record at or above this
 * offset before they return an entry of it: CORRUPT (P12). */
void skv_mem_doubt(skv_mem *mem, uint64_t offset);

#endif
