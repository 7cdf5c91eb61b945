/*
 * Lookups that several routes share: a table by name, a key's entry. Each
 * answers the request itself when it fails.
 */
#ifndef SKVD_LOOKUP_H
#define SKVD_LOOKUP_H

#include <stdbool.h>

#include "ext/httpd/key.h"
#include "ext/httpd/request.h"
#include "stratakv.h"

/* The table that every route takes if none is named. */
#define SKVD_DEFAULT_TABLE "kv"

/* Find a table; name has no terminator. False: the request has an answer. */
bool skvd_lookup_table(skvd_request *request, const char *name, size_t name_len,
                       stratakv_table_info *out);

/* Is the key there? False: the request has an answer. */
bool skvd_lookup_exists(skvd_request *request, uint32_t table,
                        const skvd_key *key, bool *exists);

/*
 * Read an entry and decode it; *typed borrows from *value, which starts from
 * zeros and must be cleared. False: the request has an answer.
 */
bool skvd_lookup_entry(skvd_request *request, uint32_t table,
                       const skvd_key *key, bool *exists, stratakv_value *value,
                       stratakv_typed *typed);

/* Does what a lookup showed survive a power cut, as far as --sync promises
 * that? Others may write with less. */
bool skvd_lookup_is_durable(const skvd_request *request);

#endif
