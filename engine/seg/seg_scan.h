/*
 * Scanning a segment from its first byte to its last, damaged or not: what
 * check, salvage and inspect read by.
 *
 * Everything is read anew from the file. What is damaged is described, and the
 * scan goes on behind it. Data blocks are found by the index, and where that
 * is damaged by looking for blocks whose checksums hold at multiples of 8.
 * Those need the uid: the manifest has it; where that is lost as well, a
 * damaged footer's is tried as it is, and with any one byte changed.
 */
#ifndef SKV_SEG_SEG_SCAN_H
#define SKV_SEG_SEG_SCAN_H

#include "engine/seg/seg_open.h"
#include "engine/util/seek.h"

#define SKV_SCAN_PARTS 4 /* footer, properties, index, filter */

typedef struct skv_scan_part {
  uint64_t offset;
  char what[80]; /* its damage; empty: none */
} skv_scan_part;

typedef struct skv_scan {
  struct skv_seg seg; /* with what of it is whole */
  bool has_uid;       /* blocks can be verified */
  bool is_other;      /* the footer is another segment's */
  bool has_footer, has_props, has_index, has_filter;
  skv_scan_part parts[SKV_SCAN_PARTS];
  /* The scan's own: */
  uint64_t at;    /* next byte of data to look at */
  uint64_t end;   /* where data ends, at most */
  uint32_t next;  /* by the index: next block */
  skv_buf frame;  /* a block as it is in the file */
  skv_buf raw;    /* decompressed */
  skv_buf window; /* bytes of the file at window_at */
  uint64_t window_at;
  skv_seek seek;
} skv_scan;

/* `in` stays the caller's. uid: which segment it should be, NULL if that is
 * not known. Fails only for want of memory, and by the pause in a search. */
int skv_scan_open(skv_in *in, const uint64_t *uid, skv_pause pause,
                  skv_err *err, skv_scan *scan);
void skv_scan_close(skv_scan *scan);

typedef struct skv_scan_block {
  uint64_t offset;  /* in the file */
  uint64_t end;     /* of the next block */
  uint32_t number;  /* by the index; else counted */
  const char *what; /* its damage, or NULL and: */
  int compression;
  uint32_t stored; /* bytes of the body in the file */
  skv_block block; /* valid until the next call */
} skv_scan_block;

/* The next data block, or gap between valid ones; false at the end. Fails as
 * skv_scan_open. */
int skv_scan_next(skv_scan *scan, skv_err *err, skv_scan_block *out,
                  bool *more);
/* The key of a slot, into buf (replaced), and the rest of the entry; false:
 * malformed. entry->lsn is as stored. */
bool skv_scan_entry(const skv_block *block, uint32_t slot, skv_buf *key,
                    skv_entry *entry);
/* By the index: separator i, into buf (replaced); every key of block i is at
 * or below it, and above separator i - 1. */
void skv_scan_separator(const skv_scan *scan, uint32_t i, skv_buf *buf);

/* ---- Verifying all of it ------------------------------------------------- */

/* What a segment must be, and who is told what is wrong with it. The functions
 * end the check with a code. */
typedef struct skv_seg_judge {
  const skv_seg_meta *meta; /* the manifest's; NULL: the properties' word */
  uint64_t ingest_lsn;      /* 0: an ordinary segment */
  /* at UINT64_MAX: the whole file */
  int (*damage)(void *arg, uint64_t at, const char *what, skv_err *err);
  int (*step)(void *arg, uint64_t bytes, skv_err *err); /* may be NULL */
  void *arg;
} skv_seg_judge;

/* Every byte: blocks, and of each entry that index, filter, properties and
 * order are as they should be. */
int skv_seg_check(skv_in *in, const skv_seg_judge *judge, skv_err *err);

#endif
