/* What the compiled kernels share with each other, and with native/__init__.py, which mirrors the structures. */
#ifndef DISTKMEANS_KERNELS_H
#define DISTKMEANS_KERNELS_H

enum { ROWS = 12, PANEL = 32, BLOCKS = 12, TILE = ROWS * BLOCKS, GROUP = 128 };
enum { MOST_WORDS_SKIPPED = 64, MOST_NARROW = 128, NARROW_TILE = 1024, NEAR = 1024, QUEUE = 512, LEVELS = 4 };
enum { MOST_TRIALS = 32, TRIED_TOGETHER = 8, LIMB = 26 };
#define NEVER_FITS 1e30f
enum { EVERY = -1, ALWAYS = 1 << 30, FINE = 128, MOST_TOGETHER = 8 };
enum { F32, F64, F16, BF16, U8, I8 };
/* A record is a row's header and its head, in words of 32 bits. ID: local row number, -1 for padding. PLACE: where its
   longer head is, and its row, if that was moved too. LABEL: its nearest centroid so far, -1 for none. SQUARE: float,
   |X|^2, rounded down. LOW, HIGH: float bounds on the squared distance to the labelled centroid, HIGH is FLT_MAX where
   unknown. From MARGIN, and from LONG_MARGIN for the longer head, EXCESS and SIZE: float, (|e| - E)+ and |q|, and
   TOTAL: what unsigned bytes in place of the centroids' signed ones add to every product. See kernels/head.py. */
enum { ID, PLACE, LABEL, SQUARE, LOW, HIGH, MARGIN, LONG_MARGIN = MARGIN + 3, HEADER = LONG_MARGIN + 3 };
enum { EXCESS, SIZE, TOTAL_ }; /* TOTAL is taken by isa.h */

typedef struct {
    const void *data;
    int64_t stride;
    int32_t type, dims;
} Rows;

typedef struct { /* centroids' heads in panels of PANEL; map: their numbers, -1 for padding; level: of each panel */
    const uint32_t *words;
    const int32_t *bias, *map;
    const uint8_t *level;
    int64_t count;
} Panels;

typedef struct { /* of one length of heads; unit: s t, of level 0, twice that for each of the levels above */
    double unit, reach, residue;
} Margin;

/* Heads of rows, by their place, and of centroids, ``words`` each, a multiple of 16; rows: NULL for none. level: of each
   centroid, NULL for 0. */
typedef struct {
    const int32_t *rows;
    const uint32_t *centroids;
    const int32_t *bias;
    const uint8_t *level;
    int32_t words;
    Margin margin;
} Longer;

typedef struct {
    int64_t pairs, blocks, full, changed;
} Counts;

/* A block of records: the mean of their heads, |m|^2 rounded down; of what they differ by, r = x - m, the largest |r| and
   bounds on r.m, rounded up. */
typedef struct {
    double square, rho;
    float gain[ROWS];
} Shape;

typedef struct {
    Rows rows;
    int32_t *records;
    int64_t count; /* of records, a multiple of ROWS */
    int32_t *means; /* (blocks, words) */
    Shape *shapes;
    int32_t step, words, bits, restricted, skip, row_by; /* row_by: ID or PLACE */
    Panels all, some;
    const float *centroids;
    const uint8_t *moved;
    Margin margin;
    Longer longer;
    double gap;
    float relative, absolute;
    int32_t *labels, *open; /* open: pairs of a record's place and a centroid, among which its nearest is */
    int32_t *scores; /* NULL, or room for those of a tile and all panels, for each part */
    double *costs, *scratch, scale; /* costs: NULL, or squared distances, scaled, as of Steps; -1 of open rows */
    int64_t room, opened, next;
    Counts counts;
} Assignment;

/* The best so far of a row: bounds on its squared distance, and that as computed in full, -1 where not. near: how many
   centroids rounding could not tell from it. */
typedef struct {
    double low, high;
    float distance;
    int32_t label, near;
} Found;

/* Survivors of a block, to be compared in full: a row of the tile and a centroid each. */
typedef struct {
    int32_t count, row[QUEUE], label[QUEUE];
} Queue;

/* Pairs of a tile that were too near to call when they were met. */
typedef struct {
    int32_t count, row[NEAR], label[NEAR];
    float distance[NEAR];
} Near;

typedef struct {
    Rows rows;
    int64_t count;
    const float *centroids, *bias, *shift; /* centroids (K, dims) seen from the shift; NULL for none */
    int32_t clusters;
    float slope, floor;
    int32_t *labels, *open;
    int64_t opened, next;
    float *scratch; /* zeros (threads, MOST_TOGETHER, width), of rows with more than MOST_NARROW columns; else NULL */
    int32_t width;  /* of a centroid: dims, for those up to whole VECTORs */
} Narrow;

/* Rows of one cluster, places in the list of rows that enter and leave clusters. shared: others have more of them. */
typedef struct {
    int64_t enter, leave;
    int32_t entering, leaving, cluster, shared;
} Run;

typedef struct { /* rows into sums: int64 (clusters, limbs, dims + 1), counts int64 (clusters,) */
    Rows rows;
    const float *weights;
    const double *down, *up; /* (limbs, dims + 1): powers of two that cut a value into limbs */
    int64_t *sums, *counts;
    int32_t limbs, clusters;
    int32_t *entries; /* row numbers by cluster */
    int64_t listed;
    Run *run;
    double *scratch;
    int64_t runs, next;
    const int64_t *which; /* of ``rows`` these are; NULL for all */
    uint8_t *touched; /* clusters that rows enter or leave are marked; NULL for none */
    int32_t squared;  /* of values in place of weighted values */
} Tally;

typedef struct { /* of columns: (parts, dims) */
    Rows rows;
    int64_t count;
    double *largest, *smallest;
    int32_t bad;
} Scan;

/* The sum of the squares of all values, in limbs of these units; split: 1.5 * 2**52 of them. flush: rows whose squares
   float64 adds up exactly. */
enum { SQUARE_LIMBS = 3 };
typedef struct {
    Rows rows;
    double *scratch; /* (parts, dims, up to whole VECTORs of them) */
    int64_t count, flush;
    double unit[SQUARE_LIMBS], split[SQUARE_LIMBS];
    int64_t limbs[SQUARE_LIMBS];
} Squares;

typedef struct { /* float32 means (count, dims); open: those not proved */
    const int64_t *sums;
    const double *up;
    float *means;
    uint8_t *open;
    double *scratch;
    int64_t count, opened; /* clusters; means not proved */
    int32_t limbs, dims;
} Means;

typedef struct { /* of the clusters ``which``: double-double (K,) and the sum of the |terms| */
    const int64_t *sums, *which;
    const double *unit;
    const void *centroids;
    double *high, *low, *size;
    double scale;
    int64_t count;
    int32_t limbs, dims, wide;
} Inertia;

/* As float, and a little more in the direction of the sign: beyond all roundings on the way. */
static inline float toward(double value, int sign) {
    return (float)(value + sign * (fabs(value) * 0x1p-22 + 1e-30));
}
/* Bounds on a distance as computed. */
static inline void from_distance(const Assignment *t, Found *found) {
    const double d = found->distance;
    found->low = d * (1 - (double)t->relative) - t->absolute;
    found->high = d * (1 + (double)t->relative) + t->absolute;
}
/* Whether rounding cannot change that a < b. */
static inline int apart(const Assignment *t, float a, float b) {
    return a * (1 + t->relative) + t->absolute < b * (1 - t->relative);
}
static inline void note(Near *near, int row, int32_t label, float distance) {
    if (near->count < NEAR) near->row[near->count] = row, near->label[near->count] = label;
    if (near->count < NEAR) near->distance[near->count] = distance;
    near->count++;
}
/* The centroids that still are too near to an open row's best; -1 where not all of them are known. */
static int nearest_of(const Assignment *t, const Near *near, int row, const Found *found, int32_t *label) {
    int many = 0;
    for (int i = 0; i < near->count && i < NEAR; i++)
        if (near->row[i] == row && !apart(t, found->distance, near->distance[i])) {
            int seen = 0;
            for (int j = 0; j < many; j++) seen |= label[j] == near->label[i];
            if (!seen) label[many++] = near->label[i];
        }
    return near->count > NEAR ? -1 : many;
}
/* Lists an open row, by its record's place, with these centroids. */
static void tell(Assignment *t, int32_t place, const int32_t *label, int many) {
    const int64_t at = __atomic_fetch_add(&t->opened, many, __ATOMIC_RELAXED);
    for (int i = 0; i < many && at + i < t->room; i++) t->open[2 * (at + i)] = place, t->open[2 * (at + i) + 1] = label[i];
}

/* Squared distances of rows ``now`` from ``which`` rows of ``was``, NULL for the same; and, where not NULL, their hashes and
   whether they differ from those. */
typedef struct {
    Rows was, now;
    const int32_t *which;
    double *shift, *scratch;
    int64_t *hash;
    uint8_t *moved;
    double scale;
    int64_t count;
} Steps;

typedef struct { /* sums, int64 (count, limbs, dims + 1), join means ``old`` of weights ``before``: means, gained weights */
    const int64_t *sums;
    const double *up, *before;
    Rows old;
    double *means, *gained, *scratch;
    int64_t count;
    int32_t limbs;
} Blend;

typedef struct { /* squared distances, float32 (count,), of rows to their labels' centroids */
    Rows rows;
    const float *centroids;
    const int32_t *labels;
    float *out;
    int64_t count;
} Costs;

/* What one length of heads gives: ``words`` of each value, ``step`` from one to the next, with float bounds and |h|^2; or
   the latter as ``margin`` in the values' records, from ``base`` and ``largest`` of Cut. level: NULL, or a value's scale is
   ``scale`` times two to this power. */
typedef struct {
    void *heads;
    const uint8_t *level;
    float *residue, *size;
    double *own, scale, base, largest;
    int32_t length, refined, bits, words, step, margin;
} Stage;

/* Heads of values. centre, axes: double if wide, else float; axes: in stripes of columns (lanes / STRIPE, dims, STRIPE),
   NULL for none. square: |X|^2. of_rows: not of centroids. records: NULL, or what is written in place of square, residue,
   size and own; opens: with all that is not a stage's own. */
typedef struct {
    Rows values;
    const void *centre, *axes;
    double *square, spill;
    char *scratch;
    int64_t count;
    int32_t *records;
    int32_t lanes, wide, of_rows, stages, record, opens;
    Stage stage[2];
} Cutting;

/* Centres on trial, and rows on a grid: init/lattice.py. points, centres, before: float32 integers, the last those so far,
   by the numbers in ``owner``. columns: the centres transposed, MOST_TRIALS apart. nearest, distances: squared. weights:
   NULL for 1. Masses are limbs of LIMB bits, most significant first, then the rows above 0: ``width`` words each, in
   ``blocks`` of ``block_rows`` rows. apart: of each centre so far. lost: of each on trial. which, distances: ``found`` rows
   that come closer to any, if there is ``room``. */
typedef struct {
    const float *points;
    const double *point_squares, *weights;
    double *nearest;
    int32_t *owner;
    float *levels;
    int64_t *blocks;
    const float *centres, *columns, *bias;
    const double *squares;
    const float *before;
    const double *before_squares;
    double *apart, slack, keep, give;
    int64_t *lost, *which;
    double *distances;
    int64_t count, taken, room, found, next;
    int32_t dims, trials, width, block_rows;
} Trial;

typedef void Part(void *argument, int part, int parts);

static inline float as_float(int32_t word) {
    float value;
    memcpy(&value, &word, 4);
    return value;
}
static inline int32_t as_int(float value) {
    int32_t word;
    memcpy(&word, &value, 4);
    return word;
}
static inline float bfloat_to_float(uint16_t half) { return as_float((int32_t)((uint32_t)half << 16)); }
static inline float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return as_float((int32_t)(sign | 0x7f800000 | (rest & 0x3ff) << 13));
    if (rest >= 0x400) return as_float((int32_t)(sign | (rest + 0x1c000) << 13));
    const float value = (float)rest * 5.9604644775390625e-8f; /* subnormal: units of 2**-24 */
    return sign ? -value : value;
}
static inline double stored(const Rows *rows, int64_t row, int column) {
    const int64_t at = row * rows->stride + column;
    switch (rows->type) {
    case F64: return ((const double *)rows->data)[at];
    case F16: return half_to_float(((const uint16_t *)rows->data)[at]);
    case BF16: return bfloat_to_float(((const uint16_t *)rows->data)[at]);
    case U8: return ((const uint8_t *)rows->data)[at];
    case I8: return ((const int8_t *)rows->data)[at];
    default: return ((const float *)rows->data)[at];
    }
}
/* Adds a mass to its limbs, as other threads may, and rows above 0. */
static inline void into_limbs(int64_t *limbs, __int128 mass, int64_t above, int width) {
    for (int l = width - 2; l > 0; l--, mass >>= LIMB)
        __atomic_fetch_add(limbs + l, (int64_t)(mass & ((1 << LIMB) - 1)), __ATOMIC_RELAXED);
    __atomic_fetch_add(limbs, (int64_t)mass, __ATOMIC_RELAXED);
    __atomic_fetch_add(limbs + width - 1, above, __ATOMIC_RELAXED);
}
static inline int row_bytes(int type) { return type == F64 ? 8 : type == F32 ? 4 : type <= BF16 ? 2 : 1; }
static inline void prefetch_row(const Rows *rows, int64_t row) {
    const char *p = (const char *)rows->data + row * rows->stride * row_bytes(rows->type);
    const int bytes = rows->dims * row_bytes(rows->type);
    for (int at = 0; at < bytes; at += 64) __builtin_prefetch(p + at);
}
static inline void prefetch_long(const Assignment *t, const int32_t *record) {
    const int32_t *head = t->longer.rows + (size_t)record[PLACE] * t->longer.words;
    for (int w = 0; w < t->longer.words; w += 16) __builtin_prefetch(head + w);
}
static inline void prefetch_rows(const Assignment *t, const int32_t *record, int count) {
    for (int r = 0; r < count; r++, record += t->step)
        if (record[ID] >= 0 && (as_float(record[HIGH]) == FLT_MAX || t->moved[record[LABEL]]))
            prefetch_row(&t->rows, record[t->row_by]);
}
#endif
