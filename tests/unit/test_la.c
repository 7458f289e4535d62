/* SPDX-License-Identifier: Apache-2.0 */
/* test_la.c: dense factorisations by their identities: orthogonality, reconstruction, known
 * spectra; ranks that are lacking, equal values, extreme scales; same bits with every instruction
 * set. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/la.h"
#include <math.h>
#include <stdlib.h>

#define TOL 1e-13

static lb_kernels kernels(void) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    return k;
}

static double *room(size_t n) {
    double *p = calloc(n + 1, sizeof *p);
    LB_ASSERT(p);
    return p;
}

/* How far the columns are from orthonormal; those of length 0 count as such where they may. */
static double skew(const lb_kernels *k, size_t n, size_t n_cols, const double *q, bool zeros) {
    double worst = 0;
    for (size_t i = 0; i < n_cols; i++)
        for (size_t j = 0; j <= i; j++) {
            double d = k->dot_f64(n, q + i * n, q + j * n);
            double want = i == j && !(zeros && d == 0) ? 1 : 0;
            worst = fmax(worst, fabs(d - want));
        }
    return worst;
}

enum { NORMAL, LOW_RANK, ZERO, EQUAL, HUGE_SCALE, TINY_SCALE, GRADED, ONE_ROW, SPARSE, N_KINDS };

static void fill(u32 kind, size_t n, size_t n_cols, double *x) {
    double scale = kind == HUGE_SCALE ? 3e38 : kind == TINY_SCALE ? 1e-45 : 1;
    for (size_t j = 0; j < n_cols; j++)
        for (size_t i = 0; i < n; i++) {
            double v = (double)lb_test_normal() * scale;
            if (kind == LOW_RANK && j >= 3)
                v = x[(j - 3) * n + i] * 2 - x[(j - 1) * n + i];
            if (kind == GRADED)
                v *= ldexp(1, -(int)(3 * j));
            if (kind == ZERO || (kind == ONE_ROW && i != n / 2) ||
                (kind == SPARSE && lb_test_rand_below(10)))
                v = 0;
            if (kind == EQUAL)
                v = i == j ? 2 : 0;
            x[j * n + i] = v;
        }
}

static double largest(size_t n, const double *x) {
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* |a - U diag(s) W^T| over the largest of a. */
static double distance(size_t n, size_t m, const double *a, const double *u, const double *s,
                       const double *w) {
    double worst = 0;
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++) {
            double v = 0;
            for (size_t r = 0; r < m; r++)
                v += u[r * n + i] * s[r] * w[r * m + j];
            worst = fmax(worst, fabs(a[j * n + i] - v));
        }
    double most = largest(n * m, a);
    return most > 0 ? worst / most : worst;
}

LB_TEST(qr) {
    lb_kernels k = kernels();
    static const size_t shapes[][2] = {{1, 1}, {5, 1}, {7, 7}, {40, 17}, {300, 33}};
    for (u32 kind = 0; kind < N_KINDS; kind++)
        for (size_t s = 0; s < LB_LEN(shapes); s++) {
            size_t n = shapes[s][0], m = shapes[s][1];
            double *a = room(n * m), *x = room(n * m), *q = room(n * m), *tau = room(m);
            fill(kind, n, m, a);
            memcpy(x, a, n * m * sizeof *x);
            lb_la_orth(&k, n, m, x, q, tau);
            CHECK(!(skew(&k, n, m, q, false) > TOL));
            double worst = 0;
            for (size_t j = 0; j < m; j++)
                for (size_t i = 0; i < n; i++) {
                    double v = 0;
                    for (size_t r = 0; r <= j; r++)
                        v += q[r * n + i] * x[j * n + r];
                    worst = fmax(worst, fabs(v - a[j * n + i]));
                }
            CHECK(!(worst > 10 * TOL * largest(n * m, a)));
            free(a), free(x), free(q), free(tau);
        }
}

LB_TEST(svd) {
    lb_kernels k = kernels();
    static const size_t shapes[][2] = {{1, 1}, {5, 1}, {7, 7}, {40, 17}, {200, 48}};
    for (u32 kind = 0; kind < N_KINDS; kind++)
        for (size_t s = 0; s < LB_LEN(shapes); s++) {
            size_t n = shapes[s][0], m = shapes[s][1];
            double *a = room(n * m), *x = room(n * m), *u = room(n * m), *w = room(m * m),
                   *sigma = room(m), *work = room(m * (m + 1));
            fill(kind, n, m, a);
            memcpy(x, a, n * m * sizeof *x);
            lb_la_svd(&k, n, m, x, u, w, sigma, work);
            CHECK(!(skew(&k, m, m, w, false) > TOL));
            CHECK(!(distance(n, m, a, u, sigma, w) > 100 * TOL));
            for (size_t i = 0; i + 1 < m; i++)
                CHECK(sigma[i] >= sigma[i + 1] && sigma[i + 1] >= 0);
            if (kind == NORMAL || kind == EQUAL || kind == HUGE_SCALE)
                CHECK(!(skew(&k, n, m, u, false) > TOL));
            if (kind == EQUAL)
                CHECK(sigma[0] == 2 && sigma[m - 1] == 2);
            if (kind == LOW_RANK && m > 3)
                CHECK(sigma[3] < 1e-11 * sigma[0] && sigma[2] > 0);
            free(a), free(x), free(u), free(w), free(sigma), free(work);
        }
}

LB_TEST(cholesky) {
    lb_kernels k = kernels();
    size_t n = 60;
    double *x = room(n * n), *g = room(n * (n + 1) / 2), *l = room(n * (n + 1) / 2);
    fill(NORMAL, n, n, x);
    k.gram_f64(n, n, g, x);
    memcpy(l, g, n * (n + 1) / 2 * sizeof *l);
    CHECK(lb_la_cholesky(&k, n, l));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double v = k.dot_f64(j + 1, l + i * (i + 1) / 2, l + j * (j + 1) / 2);
            CHECK(!(fabs(v - g[i * (i + 1) / 2 + j]) > 1e-11));
        }
    l[0] = -1;
    CHECK(!lb_la_cholesky(&k, n, l));
    free(x), free(g), free(l);
}

/* ---- symmetric ---- */

typedef struct sym {
    size_t n;
    double *full, *g, *memory;
    lb_la_tri t;
} sym;

/* full: by columns. */
static sym sym_new(size_t n) {
    sym s = {.n = n, .full = room(n * n), .g = room(n * (n + 1) / 2)};
    s.memory = room(lb_la_tri_doubles(n));
    return s;
}

static void sym_free(sym *s) {
    free(s->full), free(s->g), free(s->memory);
}

static void tridiagonalize(const lb_kernels *k, sym *s) {
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j <= i; j++)
            s->g[i * (i + 1) / 2 + j] = s->full[i * s->n + j];
    lb_la_tri_place(&s->t, s->n, s->g, s->memory);
    lb_la_tridiagonalize(k, &s->t);
}

/* The matrix of a spectrum in a random frame, or the Gram matrix of one of fill()'s. */
enum { KNOWN = N_KINDS, CLUSTERS, BLOCKS, N_SYM };
static void sym_fill(const lb_kernels *k, u32 kind, sym *s, double *values) {
    size_t n = s->n;
    double *x = room(n * n), *q = room(n * n), *tau = room(n);
    for (size_t i = 0; i < n; i++)
        values[i] = kind == CLUSTERS ? (i < n / 2 ? 1 + 1e-14 * (double)i : 1e-3)
                                     : (double)(n - i) - (double)n / 3;
    fill(kind < N_KINDS ? kind : NORMAL, n, n, x);
    if (kind < N_KINDS) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                s->full[i * n + j] = k->dot_f64(n, x + LB_MAX(i, j) * n, x + LB_MIN(i, j) * n);
    } else if (kind == BLOCKS) { /* falls into pieces, with the same values in each */
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                s->full[i * n + j] = i == j ? 2 : i / 2 == j / 2 ? 1 : 0;
    } else {
        lb_la_orth(k, n, n, x, q, tau);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double v = 0;
                for (size_t r = 0; r < n; r++)
                    v += q[r * n + i] * values[r] * q[r * n + j];
                s->full[i * n + j] = s->full[j * n + i] = v;
            }
    }
    free(x), free(q), free(tau);
}

/* The largest |A x - value x| over the largest of A. */
static double residual(const lb_kernels *k, const sym *s, size_t n_vectors, const double *values,
                       const double *vectors) {
    double worst = 0, most = largest(s->n * s->n, s->full);
    for (size_t v = 0; v < n_vectors; v++)
        for (size_t i = 0; i < s->n; i++) {
            double y = k->dot_f64(s->n, s->full + i * s->n, vectors + v * s->n);
            worst = fmax(worst, fabs(y - values[v] * vectors[v * s->n + i]));
        }
    return most > 0 ? worst / most : worst;
}

LB_TEST(eigen) {
    lb_kernels k = kernels();
    static const size_t sizes[] = {1, 2, 3, 8, 33, 90};
    double *work = room(LB_LA_QL_WORK);
    for (u32 kind = 0; kind < N_SYM; kind++)
        for (size_t i = 0; i < LB_LEN(sizes); i++) {
            size_t n = sizes[i], top = LB_MAX(n / 2, (size_t)1);
            sym s = sym_new(n);
            double *known = room(n), *values = room(n), *vectors = room(n * n);
            sym_fill(&k, kind, &s, known);
            tridiagonalize(&k, &s);
            lb_la_eigen_top(&k, &s.t, top, values, vectors, work);
            CHECK(!(skew(&k, n, top, vectors, false) > TOL));
            CHECK(!(residual(&k, &s, top, values, vectors) > 100 * TOL));
            for (size_t j = 0; j < top && kind == KNOWN; j++)
                CHECK(!(fabs(values[j] - known[j]) > 10 * TOL * (double)n));
            double most = values[0];
            CHECK(lb_la_eigen_all(&k, &s.t, vectors, work));
            CHECK(!(skew(&k, n, n, vectors, false) > TOL));
            CHECK(!(residual(&k, &s, n, s.t.d, vectors) > 100 * TOL));
            double greatest = s.t.d[0];
            for (size_t j = 0; j < n; j++)
                greatest = fmax(greatest, s.t.d[j]);
            CHECK(!(fabs(greatest - most) > 10 * TOL * fabs(most)));
            sym_free(&s);
            free(known), free(values), free(vectors);
        }
    free(work);
}

/* Every instruction set gives the bits of the scalar kernels. */
LB_TEST(same_bits) {
    lb_kernels k[2];
    lb_kernels_init(&k[0], 0);
    lb_kernels_init(&k[1], lb_cpu_isa());
    size_t n = 70, m = 21;
    double *a = room(n * m), *work = room(m * (m + 1)), *got[2], *big[2];
    double *ql = room(LB_LA_QL_WORK), *values = room(n);
    fill(NORMAL, n, m, a);
    for (u32 v = 0; v < 2; v++) {
        double *x = room(n * m), *u = got[v] = room(n * m + m * m + m);
        memcpy(x, a, n * m * sizeof *x);
        lb_la_svd(&k[v], n, m, x, u, u + n * m, u + n * m + m * m, work);
        sym s = sym_new(n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                s.full[i * n + j] = a[(i * j + i + j) % (n * m)];
        tridiagonalize(&k[v], &s);
        big[v] = room(2 * n * n);
        lb_la_eigen_top(&k[v], &s.t, n, values, big[v] + n * n, ql);
        CHECK(lb_la_eigen_all(&k[v], &s.t, big[v], ql));
        sym_free(&s);
        free(x);
    }
    CHECK(memcmp(got[0], got[1], (n * m + m * m + m) * sizeof(double)) == 0);
    CHECK(memcmp(big[0], big[1], 2 * n * n * sizeof(double)) == 0);
    for (u32 v = 0; v < 2; v++)
        free(got[v]), free(big[v]);
    free(a), free(work), free(ql), free(values);
}

LB_TEST_MAIN("fast")
