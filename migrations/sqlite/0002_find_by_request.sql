-- `why` asks for a request id in every tenant; the primary keys begin with the tenant.
CREATE INDEX calls_by_request ON calls (request_id);
