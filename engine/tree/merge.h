/*
 * The merge iterator: several iterators, newest first, shown as one. For a key
 * that more than one has, the first in the list wins (INV-5). Tombstones are
 * shown; dropping them is for the caller.
 *
 * A binary heap over the inputs with the first 8 key bytes beside each, so that
 * most comparisons touch no key. Inputs that have the same key as the one
 * shown have already been moved past it.
 */
#ifndef SKV_TREE_MERGE_H
#define SKV_TREE_MERGE_H

#include "engine/util/entry.h"

/* Takes the inputs over (also on failure; the array stays the caller's). One
 * input is returned as it is, none give an empty iterator. */
int skv_merge_new(skv_iter **inputs, size_t count, skv_err *err,
                  skv_iter **out);

#endif
