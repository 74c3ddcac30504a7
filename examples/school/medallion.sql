-- A school's enrollments, from raw JSON files to a daily report: bronze, silver, gold.
--
--   alluvium run examples/school/medallion.sql        (from the top of the repository)
--
-- Files "arrive" by COPY into a landing directory. ${TEMP_DIR} is a fresh temporary directory of this run, so the
-- script can be run again and again; CREATE OR REPLACE starts each table over.

-- The first file lands.
COPY (SELECT * FROM json.`examples/school/data/enrollments-json-raw/01.json`) TO '${TEMP_DIR}/landing/01.json';

-- Bronze: every record as it came, with where it came from and when. cloud_files remembers which files it has read,
-- so each is read exactly once, whatever happens in between.
CREATE OR REPLACE STREAMING TABLE bronze AS
SELECT *, current_timestamp() AS arrival_time, input_file_name() AS source_file
FROM cloud_files('${TEMP_DIR}/landing', 'json', map('cloudFiles.inferColumnTypes', 'true'));

-- The students are a plain lookup: read whole, each time anew.
CREATE OR REPLACE TEMP VIEW students AS
SELECT student_id, email FROM json.`examples/school/data/students-json`;

-- Silver: each new row of bronze, cleaned and joined with its student. STREAM reads bronze as it grows.
CREATE OR REPLACE STREAMING TABLE silver AS
SELECT enroll_id, quantity, b.student_id, email,
       CAST(from_unixtime(enroll_timestamp, 'yyyy-MM-dd HH:mm:ss') AS timestamp) AS formatted_timestamp, courses
FROM STREAM bronze b
INNER JOIN students s ON b.student_id = s.student_id
WHERE quantity > 0;

-- Gold: courses per student and day. The result changes as rows come, so the table is rewritten each time (COMPLETE);
-- what was counted before is kept as state, not counted again.
CREATE OR REPLACE STREAMING TABLE gold OUTPUT MODE COMPLETE AS
SELECT student_id, email, date_trunc('DD', formatted_timestamp) AS day, sum(quantity) AS courses_count
FROM STREAM silver
GROUP BY student_id, email, date_trunc('DD', formatted_timestamp);

SELECT (SELECT count(*) FROM bronze) AS bronze_rows, (SELECT count(*) FROM silver) AS silver_rows,
       (SELECT count(*) FROM gold) AS gold_groups, (SELECT sum(courses_count) FROM gold) AS courses;

-- Two more files land. REFRESH reads what is new, and only that.
COPY (SELECT * FROM json.`examples/school/data/enrollments-json-streaming/02.json`) TO '${TEMP_DIR}/landing/02.json';
COPY (SELECT * FROM json.`examples/school/data/enrollments-json-streaming/03.json`) TO '${TEMP_DIR}/landing/03.json';
REFRESH STREAMING TABLE bronze;
REFRESH STREAMING TABLE silver;
REFRESH STREAMING TABLE gold;

SELECT (SELECT count(*) FROM bronze) AS bronze_rows, (SELECT count(*) FROM silver) AS silver_rows,
       (SELECT count(*) FROM gold) AS gold_groups, (SELECT sum(courses_count) FROM gold) AS courses;

-- Refreshing once more adds nothing: there is nothing new.
REFRESH STREAMING TABLE bronze;
SELECT count(*) AS bronze_rows FROM bronze;

-- Every epoch is one commit of a Delta table that Spark, DuckDB and Polars read as it is.
DESCRIBE HISTORY gold;

-- The busiest students of one day, of those who left an address.
SELECT email, day, courses_count FROM gold WHERE email IS NOT NULL ORDER BY courses_count DESC, email, day LIMIT 5;
