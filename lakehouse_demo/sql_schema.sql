-- The source tables of the business in a database, and the place where the workload notes how far it came.

CREATE DATABASE IF NOT EXISTS sales;
CREATE DATABASE IF NOT EXISTS workload;

CREATE TABLE IF NOT EXISTS sales.city (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    province VARCHAR(100) NOT NULL
);

CREATE TABLE IF NOT EXISTS sales.team (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    city_id VARCHAR(16) NOT NULL,
    FOREIGN KEY (city_id) REFERENCES sales.city (id)
);

CREATE TABLE IF NOT EXISTS sales.agent (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    team_id VARCHAR(16) NOT NULL,
    hired_on DATE NOT NULL,
    FOREIGN KEY (team_id) REFERENCES sales.team (id)
);

CREATE TABLE IF NOT EXISTS sales.product (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    category VARCHAR(32) NOT NULL,
    category_name VARCHAR(100) NOT NULL,
    score_weight DECIMAL(20,4) NOT NULL
);

CREATE TABLE IF NOT EXISTS sales.sprint (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    start_date DATE NOT NULL,
    end_date DATE NOT NULL
);

CREATE TABLE IF NOT EXISTS sales.member (
    id VARCHAR(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    city_id VARCHAR(16) NOT NULL,
    phone VARCHAR(20) NULL,
    event_time DATETIME(3) NOT NULL,
    FOREIGN KEY (city_id) REFERENCES sales.city (id)
);

CREATE TABLE IF NOT EXISTS sales.member_order (
    v_date VARCHAR(10) NOT NULL,
    id VARCHAR(16) NOT NULL,
    member_id VARCHAR(16) NOT NULL,
    agent_id VARCHAR(16) NOT NULL,
    product_id VARCHAR(16) NOT NULL,
    sprint_id VARCHAR(16) NOT NULL,
    order_type VARCHAR(8) NOT NULL,
    quantity INT NOT NULL,
    amount DECIMAL(20,4) NOT NULL,
    status VARCHAR(16) NOT NULL,
    event_time DATETIME(3) NOT NULL,
    PRIMARY KEY (v_date, id),
    UNIQUE (id),
    FOREIGN KEY (member_id) REFERENCES sales.member (id),
    FOREIGN KEY (agent_id) REFERENCES sales.agent (id),
    FOREIGN KEY (product_id) REFERENCES sales.product (id),
    FOREIGN KEY (sprint_id) REFERENCES sales.sprint (id)
);

CREATE TABLE IF NOT EXISTS workload.progress (
    id SMALLINT NOT NULL PRIMARY KEY,
    transactions INT NOT NULL,
    members INT NOT NULL,
    orders INT NOT NULL
);
