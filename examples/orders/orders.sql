-- Orders arrive as one CSV file a day; revenue per country and month is kept up to date.
--
--   alluvium run examples/orders/orders.sql          (from the top of the repository)
--
-- The files are in examples/orders/data, made by make_data.py. They "arrive" by COPY into ${TEMP_DIR}, a fresh
-- temporary directory of this run.

-- The second half of January.
COPY (SELECT * FROM read_files('examples/orders/data/orders-2026-01-*.csv', format => 'csv'))
TO '${TEMP_DIR}/landing/january.csv';

-- Orders as they came. Types are given here instead of inferred: money is DECIMAL, never floating point.
CREATE OR REPLACE STREAMING TABLE orders AS
SELECT order_id, order_date, country, product, quantity, unit_price
FROM cloud_files('${TEMP_DIR}/landing', 'csv', map(
       'schema', 'order_id BIGINT, order_date DATE, country STRING, product STRING, quantity INT, unit_price DECIMAL(10,2)'));

CREATE OR REPLACE STREAMING TABLE revenue OUTPUT MODE COMPLETE AS
SELECT country, trunc(order_date, 'MONTH') AS month, count(*) AS orders, sum(quantity * unit_price) AS revenue
FROM STREAM orders
GROUP BY country, trunc(order_date, 'MONTH');

SELECT country, month, orders, revenue FROM revenue ORDER BY month, country;

-- The first of February arrives: one more file, one more refresh. Only its rows are read.
COPY (SELECT * FROM csv.`examples/orders/data/orders-2026-02-01.csv`) TO '${TEMP_DIR}/landing/2026-02-01.csv';
REFRESH STREAMING TABLE orders;
REFRESH STREAMING TABLE revenue;

SELECT country, orders, revenue FROM revenue WHERE month = '2026-02-01' ORDER BY country;

-- And the next day.
COPY (SELECT * FROM csv.`examples/orders/data/orders-2026-02-02.csv`) TO '${TEMP_DIR}/landing/2026-02-02.csv';
REFRESH STREAMING TABLE orders;
REFRESH STREAMING TABLE revenue;

-- The rest of the first half of February, after a long weekend: eleven days at once.
COPY (SELECT * FROM read_files('examples/orders/data/orders-2026-02-{0[3-9],1?}.csv', format => 'csv'))
TO '${TEMP_DIR}/landing/rest.csv';
REFRESH STREAMING TABLE orders;
REFRESH STREAMING TABLE revenue;

SELECT country, month, orders, revenue FROM revenue ORDER BY month, country;

-- What was read: four files, each once.
SELECT count(*) AS files, count_if(ingestion_state = 'INGESTED') AS ingested FROM cloud_files_state('orders');
