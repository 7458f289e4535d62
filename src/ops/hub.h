/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h: hf://OWNER/NAME[@REVISION][/FILE] in the local cache of Hugging Face's tools. Downloads
 * nothing. */
#ifndef LB_OPS_HUB_H
#define LB_OPS_HUB_H

#include "base/base.h"
#include "base/mem.h"

bool lb_hub_is(const char *arg); /* begins with hf:// */

/* Where the snapshot, or the file in it, lies; *id: OWNER/NAME, for provenance. All in the arena.
 * LB_E_USAGE: not such a name; LB_E_NOT_FOUND: not in the cache; says where it looked. */
lb_status lb_hub_find(const char *arg, lb_arena *arena, const char **path, lb_str *id, lb_err *err);

#endif
