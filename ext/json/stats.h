/*
 * A store's figures as JSON: what GET /v1/stats and stratakv-tool stat --json
 * answer.
 */
#ifndef SKV_JSON_STATS_H
#define SKV_JSON_STATS_H

#include <jansson.h>

#include "stratakv.h"

/* {"stats":[{"name":..,"value":..,"unit":..,"help":..},..]}, all of them; or
 * the code, and *out is NULL. */
int skv_json_stats(stratakv_store *store, stratakv_error *err, json_t **out);

#endif
