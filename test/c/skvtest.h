/*
 * Faults for tests through SQL: what skvtest.c's functions arm.
 *
 * One fault at a time, for the whole process; the calls of background threads
 * count as well.
 */
#ifndef TEST_C_SKVTEST_H
#define TEST_C_SKVTEST_H

#include <stdbool.h>

/* Kinds: "oom", engine allocations; "ioerr", reads, writes, allocation of
 * files, mapping, rename, unlink, directory syncs; "full", what needs space;
 * "fsync", file syncs; "cantopen", opening files; "lock", file locks. */
bool skvtest_fault_is_kind(const char *kind);

/* From here on the n-th call of that kind fails, once or for ever. */
void skvtest_fault_arm(const char *kind, long long n, bool is_forever);

/* Nothing fails any more; returns how many calls were made to fail. */
long long skvtest_fault_disarm(void);

#endif
