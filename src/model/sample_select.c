/* SPDX-License-Identifier: Apache-2.0 */
/* sample_select.c: the largest of many logits, in one order on every machine.
 *
 * Keys are 64 bits, logit above place, all different: any correct sort gives the same result. Few
 * of many: a heap of the best so far, which most keys only look at; else a radix sort that skips
 * digits in which all keys agree. */
#include "model/sample_internal.h"

#define HEAP_MAX 1024 /* more are sorted with all the others */
#define DIGIT_BITS 11

static void sift(u64 *heap, u32 n, u32 i) {
    u64 key = heap[i];
    for (;;) {
        u32 child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void heap_make(u64 *heap, u32 n) {
    for (u32 i = n / 2; i-- > 0;)
        sift(heap, n, i);
}

static void heap_sort(u64 *heap, u32 n) {
    for (u32 end = n; end > 1; end--) {
        u64 largest = heap[0];
        heap[0] = heap[end - 1];
        heap[end - 1] = largest;
        sift(heap, end - 1, 0);
    }
}

static void radix_sort(u64 *keys, u32 n, u64 *spare) {
    u64 *from = keys, *to = spare;
    u64 any = 0, all = ~(u64)0;
    for (u32 i = 0; i < n; i++) {
        any |= keys[i];
        all &= keys[i];
    }
    for (u32 shift = 0; shift < 64; shift += DIGIT_BITS) {
        u32 at[1u << DIGIT_BITS] = {0}, sum = 0;
        const u64 mask = LB_LEN(at) - 1;
        if (!((any ^ all) >> shift & mask))
            continue;
        for (u32 i = 0; i < n; i++)
            at[from[i] >> shift & mask]++;
        for (u32 d = 0; d < LB_LEN(at); d++) {
            u32 here = at[d];
            at[d] = sum;
            sum += here;
        }
        for (u32 i = 0; i < n; i++)
            to[at[from[i] >> shift & mask]++] = from[i];
        u64 *swap = from;
        from = to;
        to = swap;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
}

void lb_sample_least(u64 *keys, u32 n, u32 k, u64 *spare) {
    if (k > HEAP_MAX || (k == n && n > 64)) {
        radix_sort(keys, n, spare);
        return;
    }
    if (!k)
        return;
    heap_make(keys, k);
    for (u32 i = k; i < n; i++)
        if (keys[i] < keys[0]) {
            u64 best = keys[i];
            keys[i] = keys[0];
            keys[0] = best;
            sift(keys, k, 0);
        }
    heap_sort(keys, k);
}

void lb_sample_keep_top(lb_sampler *s, u32 k) {
    k = LB_MIN(k, s->n);
    if (!s->sorted) {
        /* Places are ids: equal logits by id, whatever order the candidates came in. */
        for (u32 i = 0; i < s->n; i++)
            s->keys[i] = lb_sample_key(s->logit[i], s->id[i]);
        lb_sample_least(s->keys, s->n, k, s->spare);
        for (u32 i = 0; i < k; i++) {
            s->id[i] = (u32)s->keys[i];
            s->logit[i] = lb_sample_key_logit(s->keys[i]);
        }
    }
    s->dense = false;
    s->sorted = true;
    s->n = k;
}
