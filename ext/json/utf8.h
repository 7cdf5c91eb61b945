/*
 * Is this UTF-8? Shortest forms only, no surrogates, nothing above U+10FFFF.
 * Pure.
 */
#ifndef SKV_UTF8_H
#define SKV_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool skv_utf8_is_valid(const void *bytes, size_t len);

#endif
