/* Narrow rows against all centroids in float32, for one instruction set: STRIP rows lie side by side in the lanes, and
   best, second best and index stay in registers. Scores and bound are those of kernels/dense.py. */

#define STRIP (4 * LANES)
#define AT_ONCE 4

static inline void V(columns)(const Narrow *n, int64_t from, int rows, float *column) {
    const int dims = n->rows.dims;
    for (int r = 0; r < STRIP; r++) {
        const int64_t row = from + (r < rows ? r : rows - 1);
        for (int d = 0; d < dims; d++) {
            const float x = (float)stored(&n->rows, row, d);
            column[d * STRIP + r] = n->shift ? x - n->shift[d] : x;
        }
    }
}

static inline void V(columns32)(const Narrow *n, int64_t from, float *column) {
    const int dims = n->rows.dims;
    const float *x = (const float *)n->rows.data + from * n->rows.stride;
    for (int d = 0; d < dims; d++) {
        const float shift = n->shift ? n->shift[d] : 0;
        for (int r = 0; r < STRIP; r++) column[d * STRIP + r] = x[r * n->rows.stride + d] - shift;
    }
}

static void V(strip)(Narrow *n, int64_t from, int rows, float *column) {
    float best[STRIP], second[STRIP], square[STRIP];
    int32_t place[STRIP];
    const int dims = n->rows.dims;
    if (rows == STRIP && n->rows.type == F32)
        V(columns32)(n, from, column);
    else
        V(columns)(n, from, rows, column);
    for (int r = 0; r < STRIP; r++) best[r] = second[r] = -INFINITY, place[r] = 0, square[r] = 0;
    for (int d = 0; d < dims; d++)
        for (int r = 0; r < STRIP; r++) square[r] += column[d * STRIP + r] * column[d * STRIP + r];
    for (int k = 0; k < n->clusters; k += AT_ONCE) {
        V(vec) acc[AT_ONCE][4];
        for (int i = 0; i < AT_ONCE; i++)
            for (int v = 0; v < 4; v++) acc[i][v] = SET1(n->bias[k + i]);
        for (int d = 0; d < dims; d++) {
            const V(vec) x0 = LOAD(column + d * STRIP), x1 = LOAD(column + d * STRIP + LANES);
            const V(vec) x2 = LOAD(column + d * STRIP + 2 * LANES), x3 = LOAD(column + d * STRIP + 3 * LANES);
            for (int i = 0; i < AT_ONCE; i++) {
                const V(vec) c = SET1(n->centroids[(size_t)(k + i) * dims + d]);
                acc[i][0] = MUL_ADD(c, x0, acc[i][0]), acc[i][1] = MUL_ADD(c, x1, acc[i][1]);
                acc[i][2] = MUL_ADD(c, x2, acc[i][2]), acc[i][3] = MUL_ADD(c, x3, acc[i][3]);
            }
        }
        for (int v = 0; v < 4; v++)
            for (int i = 0; i < AT_ONCE; i++)
                TAKE_BEST(acc[i][v], k + i, best + v * LANES, second + v * LANES, place + v * LANES);
    }
    for (int r = 0; r < rows; r++) {
        n->labels[from + r] = place[r];
        if (!(second[r] < best[r] - (n->slope * sqrtf(square[r]) + n->floor)))
            n->open[__atomic_fetch_add(&n->opened, 1, __ATOMIC_RELAXED)] = (int32_t)(from + r);
    }
}

static void V(narrow_part)(void *argument, int part, int parts) {
    Narrow *n = argument;
    float column[STRIP * MOST_NARROW];
    (void)part, (void)parts;
    for (;;) {
        const int64_t at = __atomic_fetch_add(&n->next, 1, __ATOMIC_RELAXED) * NARROW_TILE;
        if (at >= n->count) break;
        const int64_t stop = at + NARROW_TILE < n->count ? at + NARROW_TILE : n->count;
        for (int64_t from = at; from < stop; from += STRIP)
            V(strip)(n, from, (int)(stop - from < STRIP ? stop - from : STRIP), column);
    }
}
#undef STRIP
#undef AT_ONCE
