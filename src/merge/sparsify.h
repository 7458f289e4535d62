/* SPDX-License-Identifier: Apache-2.0 */
/* sparsify.h: what becomes of a difference of which a part is dropped (sparsify.py of mergekit
 * 0.1.5). Layer merge only. */
#ifndef LB_MERGE_SPARSIFY_H
#define LB_MERGE_SPARSIFY_H

#include "merge/method.h"

/* kept * sum |whole| / sum |kept|, both over the tensor; as it is where one of the sums is below
 * 1e-7. type: that of mergekit's sums and of their ratio, with its rounding. Another pass. */
lb_node_id lb_merge_rescale(const lb_merge_job *j, lb_dtype type, lb_node_id whole,
                            lb_node_id kept);

#endif
