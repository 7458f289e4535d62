/* SPDX-License-Identifier: Apache-2.0 */
/* load_internal.h: between load.c (the list, what is computed) and load_rows.c (what is mapped). */
#ifndef LB_OPS_LOAD_INTERNAL_H
#define LB_OPS_LOAD_INTERNAL_H

#include "base/mapped.h"
#include "ops/assemble.h"
#include "ops/load.h"

/* The files of a plan's sources, mapped when they are first asked for. */
typedef struct lb_maps {
    struct lb_map_of {
        const lb_source *source;
        u32 file;
        lb_mapped map;
    } * list; /* heap */
    u64 n, cap;
} lb_maps;
lb_status lb_maps_get(lb_maps *m, const lb_source *s, u32 file, const u8 **out, lb_err *err);
void lb_maps_deinit(lb_maps *m);

/* Rows of a segment as they are stored. False: they must be computed. node: under the encode. */
lb_status lb_load_rows(lb_maps *maps, const lb_graph *g, lb_node_id node, lb_mat *out, bool *is,
                       lb_err *err);
/* Below an order of heads by which GGUF turns pairs: the node under it, *turned set. Else node. */
lb_node_id lb_load_unturned(const lb_graph *g, lb_node_id node, bool *turned);

#endif
