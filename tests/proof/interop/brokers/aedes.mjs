// Aedes as its README starts it: everything in memory. Ports, user and certificates come as JSON in argv.
import { createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { createServer as createHttpServer } from 'node:http'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const given = JSON.parse(process.argv[2])
const require = createRequire(given.modules + '/')
const { Aedes } = require('aedes')
const { WebSocketServer, createWebSocketStream } = require('ws')

const aedes = await Aedes.createBroker()
aedes.authenticate = (client, user, password, done) =>
  done(null, user === given.user && String(password) === given.password)

const at = (server, port) => server.listen(port, '127.0.0.1')
at(createServer(aedes.handle), given.port)
at(createTlsServer({ cert: readFileSync(given.cert), key: readFileSync(given.key) }, aedes.handle), given.tls_port)
const http = at(createHttpServer(), given.ws_port)
new WebSocketServer({ server: http }).on('connection', (socket, request) => aedes.handle(createWebSocketStream(socket), request))
process.on('SIGTERM', () => process.exit(0))
