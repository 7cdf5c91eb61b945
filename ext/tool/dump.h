/*
 * A dump: the walk over tables and entries, and what a format adds to it.
 *
 * CALLS  begin; for each table: table, entry for each of its entries,
 *   table_end; then end, or cut if the dump could not be finished.
 */
#ifndef SKVT_DUMP_H
#define SKVT_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "ext/tool/options.h"
#include "stratakv.h"

typedef struct skvt_dump {
  const skvt_options *options;
  stratakv_store *store;
  stratakv_snapshot *snapshot;
  stratakv_table_info *tables; /* those to be dumped */
  size_t table_count;
  size_t at;          /* index of the current one */
  uint64_t entries;   /* so far, of all tables */
  uint64_t rows;      /* so far, of the current table */
  uint64_t unclassed; /* values without a class, so far */
  uint64_t oversized; /* entries that SQLite's limits keep out, so far */
} skvt_dump;

typedef struct skvt_entry {
  const void *key; /* in the store's form */
  size_t key_len;
  stratakv_typed value; /* type 0: data and size are without a class */
  uint64_t version;
} skvt_entry;

typedef struct skvt_dump_format {
  void (*begin)(skvt_dump *dump);
  void (*table)(skvt_dump *dump);
  int (*entry)(skvt_dump *dump, const skvt_entry *entry); /* OK or NOMEM */
  void (*table_end)(skvt_dump *dump);
  void (*end)(skvt_dump *dump);
  void (*cut)(skvt_dump *dump, const char *why);
} skvt_dump_format;

extern const skvt_dump_format skvt_dump_sql;
extern const skvt_dump_format skvt_dump_ndjson;

/* "text", "blob" or "int". */
const char *skvt_key_type_name(int key_type);

#endif
