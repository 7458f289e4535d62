/* SPDX-License-Identifier: Apache-2.0 */
/* test_terms.c: low-rank terms found in a graph, and only where there is nothing else; slices of
 * stacks are their parts. */
#include "plan_double.h"
#include "test.h"
#include "plan/terms.h"
#include <stdlib.h>

#define ROWS 6
#define COLS 4
#define RANK 2

static lb_arena arena;
static lb_graph g;
static float values[ROWS * COLS];

static void begin(void) {
    arena = (lb_arena){0};
    lb_graph_init(&g, &arena, NULL, 0);
    for (u32 i = 0; i < ROWS * COLS; i++)
        values[i] = (float)i * 0.5f - 3;
}

/* The same values in a node of its own each time, as of a file that is opened again. */
static lb_node_id base(void) {
    return lb_expr_const(&g, ROWS, COLS, values);
}

static lb_node_id plus(lb_node_id x, float scale) {
    u64 rows = lb_graph_node(&g, x)->n_rows;
    return lb_expr_lowrank(&g, x, lb_expr_fill(&g, rows, RANK, 1), lb_expr_fill(&g, RANK, COLS, 2),
                           scale);
}

static lb_terms *terms(lb_node_id x, lb_node_id of) {
    lb_terms *t = NULL;
    lb_err err = {0};
    if (lb_expr_terms(&g, x, of, &arena, &t, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    return t;
}

LB_TEST(terms_of_a_matrix) {
    begin();
    lb_node_id b = base(), one = plus(base(), 0.5f);
    lb_terms *t = terms(base(), b);
    CHECK(t && t->n == 0);
    t = terms(one, b);
    CHECK(t && t->n == 1 && t->list[0].from == 0 && t->list[0].n_rows == ROWS);
    CHECK(t && t->list[0].rank == RANK && t->list[0].scale == 0.5f);
    CHECK(t && t->list[0].b == lb_graph_node(&g, one)->in[1]);
    t = terms(plus(plus(one, 2), 3), b);
    CHECK(t && t->n == 3 && t->list[0].scale == 0.5f && t->list[1].scale == 2 &&
          t->list[2].scale == 3);
    t = terms(plus(plus(base(), 0.5f), 7), one); /* base has one itself */
    CHECK(t && t->n == 1 && t->list[0].scale == 7);
    lb_arena_deinit(&arena);
}

LB_TEST(other_matrices_have_none) {
    begin();
    lb_node_id b = base();
    CHECK(!terms(b, plus(base(), 1)));
    CHECK(!terms(lb_expr_map1(&g, LB_MAP_MUL_C, plus(base(), 1), LB_CONST(2)), b));
    CHECK(!terms(plus(lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(2)), 1), b));
    lb_node_id twice = lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(2));
    CHECK(terms(plus(lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(2)), 1), twice));
    CHECK(!terms(plus(lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(3)), 1), twice));
    values[5] += 1;
    CHECK(!terms(plus(base(), 1), b));
    lb_node_id sum =
        lb_expr_map1(&g, LB_MAP_MUL_C, b, /* what a number is made of counts, too */
                     (lb_scalar){.stat = lb_expr_stat(&g, LB_STAT_SUM, b, LB_NODE_NONE, 0)});
    lb_node_id other =
        lb_expr_map1(&g, LB_MAP_MUL_C, b,
                     (lb_scalar){.stat = lb_expr_stat(&g, LB_STAT_SUMABS, b, LB_NODE_NONE, 0)});
    CHECK(terms(plus(sum, 1), sum));
    CHECK(!terms(plus(sum, 1), other));
    lb_arena_deinit(&arena);
}

LB_TEST(parts_of_a_stack) {
    begin();
    lb_node_id b = base(), part[3];
    for (u32 i = 0; i < 3; i++)
        part[i] = lb_expr_rows(&g, base(), 2 * i, 1, 2);
    CHECK(terms(lb_expr_stack(&g, part, 3), b));
    part[1] = plus(part[1], 4);
    part[2] = plus(plus(part[2], 5), 6);
    lb_node_id x = lb_expr_stack(&g, part, 3);
    lb_terms *t = terms(x, b);
    CHECK(t && t->n == 3 && t->list[0].from == 2 && t->list[0].n_rows == 2 &&
          t->list[1].from == 4 && t->list[2].scale == 6);
    t = terms(plus(x, 9), b); /* of all rows, beside those of parts */
    CHECK(t && t->n == 4 && t->list[3].from == 0 && t->list[3].n_rows == ROWS);
    lb_node_id own[3]; /* base is one, too */
    for (u32 i = 0; i < 3; i++)
        own[i] = lb_expr_rows(&g, base(), 2 * i, 1, 2);
    CHECK(terms(x, lb_expr_stack(&g, own, 3)));
    lb_node_id turned[3] = {part[1], part[0], part[2]};
    CHECK(!terms(lb_expr_stack(&g, turned, 3), b));
    lb_arena_deinit(&arena);
}

/* Every level uses the one below twice: walked as a tree it would have 2^60 nodes. */
LB_TEST(shared_nodes_end) {
    begin();
    lb_node_id x = base(), y = base();
    for (u32 i = 0; i < 60; i++) {
        x = lb_expr_map2(&g, LB_MAP_ADD, x, x, LB_CONST(0));
        y = lb_expr_map2(&g, LB_MAP_ADD, y, y, LB_CONST(0));
    }
    CHECK(lb_expr_same(&g, x, x));
    (void)lb_expr_same(&g, x, y);
    lb_arena_deinit(&arena);
}

LB_TEST(slices_of_stacks) {
    begin();
    lb_node_id part[3] = {base(), lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(2)),
                          lb_expr_map1(&g, LB_MAP_MUL_C, base(), LB_CONST(3))};
    lb_node_id x = lb_expr_stack(&g, part, 3);
    CHECK_U64(lb_expr_rows(&g, x, ROWS, 1, ROWS), part[1]);
    CHECK_U64(lb_graph_node(&g, lb_expr_rows(&g, x, ROWS + 1, 1, 2))->in[0], part[1]);
    lb_node_id two = lb_expr_rows(&g, x, 4, 1, ROWS);
    CHECK_U64(lb_graph_node(&g, two)->n_in, 2);
    CHECK_U64(lb_graph_node(&g, lb_expr_stack(&g, (lb_node_id[]){x, part[0], x}, 3))->n_in, 7);
    u64 len = 0;
    u8 *bytes = lb_double_bytes(&g, lb_expr_encode(&g, two, LB_F32), &len);
    CHECK(bytes && len == ROWS * COLS * sizeof(float));
    for (u32 i = 0; bytes && i < ROWS * COLS; i++) {
        float got, want = i < 2 * COLS ? values[4 * COLS + i] : 2 * values[i - 2 * COLS];
        memcpy(&got, bytes + i * sizeof got, sizeof got);
        CHECK(got == want);
    }
    free(bytes);
    CHECK_U64(lb_expr_rows(&g, x, 3 * ROWS - 1, 1, 2), LB_NODE_NONE); /* beyond the last */
    CHECK(lb_graph_status(&g, NULL) != LB_OK);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
